package vfs_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
	"pgregory.net/rapid"
)

// nameState is which file, by number, has which name.
type nameState map[string]uint64

// namesModel knows the names as they are, as they are synced, and the changes between.
type namesModel struct {
	live, synced nameState
	unsynced     []nameState // a change sets names; 0 means gone
}

func (m *namesModel) change(c nameState) {
	m.live = m.live.with(c)
	m.unsynced = append(m.unsynced, c)
}

func (s nameState) with(c nameState) nameState {
	s = maps.Clone(s)
	maps.Copy(s, c)
	maps.DeleteFunc(s, func(_ string, id uint64) bool { return id == 0 })
	return s
}

// syncDir applies the changes that touch dir, and before each of them the earlier ones that touch
// any directory it touches.
func (m *namesModel) syncDir(dir string) {
	chosen := map[int]bool{}
	var choose func(dir string, before int)
	choose = func(dir string, before int) {
		for i := range before {
			if chosen[i] || !touches(m.unsynced[i], dir) {
				continue
			}
			chosen[i] = true
			for name := range m.unsynced[i] {
				choose(path.Dir(name), i)
			}
		}
	}
	choose(dir, len(m.unsynced))
	var rest []nameState
	for i, c := range m.unsynced {
		if chosen[i] {
			m.synced = m.synced.with(c)
		} else {
			rest = append(rest, c)
		}
	}
	m.unsynced = rest
}

func touches(c nameState, dir string) bool {
	for name := range c {
		if path.Dir(name) == dir {
			return true
		}
	}
	return false
}

// possible says whether got can be left by a crash in this mode.
func (m *namesModel) possible(mode vfs.CrashMode, got nameState) bool {
	switch mode {
	case vfs.KeepNone:
		return maps.Equal(got, m.synced)
	case vfs.KeepAll:
		return maps.Equal(got, m.live)
	case vfs.KeepPrefix:
		state := m.synced
		found := maps.Equal(got, state)
		for _, c := range m.unsynced {
			state = state.with(c)
			found = found || maps.Equal(got, state)
		}
		return found
	}
	for subset := range 1 << len(m.unsynced) {
		state := m.synced
		for i, c := range m.unsynced {
			if subset&(1<<i) != 0 {
				state = state.with(c)
			}
		}
		if maps.Equal(got, state) {
			return true
		}
	}
	return false
}

// TestCrashKeepsSyncedNames: files hold their number, synced, so that a name found after a crash
// says which file it leads to.
func TestCrashKeepsSyncedNames(t *testing.T) {
	dirs := []string{"/a", "/b"}
	rapid.Check(t, func(t *rapid.T) {
		mem := vfs.NewMem()
		for _, dir := range dirs {
			if err := mem.MkdirAll(dir); err != nil {
				t.Fatal(err)
			}
		}
		if err := mem.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
		model := &namesModel{live: nameState{}, synced: nameState{}}
		var lastID uint64
		name := rapid.SampledFrom([]string{"/a/1", "/a/2", "/a/3", "/b/1", "/b/2"})
		short := func(t *rapid.T) { // else checking all subsets takes long
			if len(model.unsynced) > 8 {
				t.Skip("enough unsynced")
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) {
				short(t)
				at := name.Draw(t, "name")
				if model.live[at] != 0 {
					t.Skip("exists")
				}
				lastID++
				createNumbered(t, mem, at, lastID)
				model.change(nameState{at: lastID})
			},
			"remove": func(t *rapid.T) {
				short(t)
				at := name.Draw(t, "name")
				if err := mem.Remove(at); (err == nil) != (model.live[at] != 0) || err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatalf("remove %s: %v", at, err)
				} else if err == nil {
					model.change(nameState{at: 0})
				}
			},
			"rename": func(t *rapid.T) {
				short(t)
				from, to := name.Draw(t, "from"), name.Draw(t, "to")
				if err := mem.Rename(from, to); (err == nil) != (model.live[from] != 0) {
					t.Fatalf("rename %s %s: %v", from, to, err)
				} else if err == nil && from != to {
					model.change(nameState{from: 0, to: model.live[from]})
				}
			},
			"sync dir": func(t *rapid.T) {
				dir := rapid.SampledFrom(dirs).Draw(t, "dir")
				if err := mem.SyncDir(dir); err != nil {
					t.Fatal(err)
				}
				model.syncDir(dir)
			},
			"kill": func(*rapid.T) { mem = mem.Clone() },
			"crash": func(t *rapid.T) {
				mode := rapid.SampledFrom(vfs.CrashModes()).Draw(t, "mode")
				mem = mem.CrashClone(mode, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 6)))
				got := names(t, mem, dirs)
				if !model.possible(mode, got) {
					t.Fatalf("mode %v: names are %v; synced %v, then %v", mode, got, model.synced, model.unsynced)
				}
				*model = namesModel{live: got, synced: got}
			},
			"": func(t *rapid.T) {
				if got := names(t, mem, dirs); !maps.Equal(got, model.live) {
					t.Fatalf("names are %v, want %v", got, model.live)
				}
				seed := rapid.Uint64().Draw(t, "seed")
				for _, mode := range vfs.CrashModes() {
					got := names(t, mem.CrashClone(mode, rand.New(rand.NewPCG(seed, 1))), dirs)
					if !model.possible(mode, got) {
						t.Fatalf("mode %v: names are %v; synced %v, then %v", mode, got, model.synced, model.unsynced)
					}
				}
			},
		})
	})
}

func createNumbered(t rapid.TB, fsys vfs.FS, name string, id uint64) {
	t.Helper()
	file := mustFile(t, fsys.Create, name)
	if _, err := file.WriteAt(binary.BigEndian.AppendUint64(nil, id), 0); err != nil {
		t.Fatal(err)
	}
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
}

func names(t rapid.TB, fsys vfs.FS, dirs []string) nameState {
	t.Helper()
	found := nameState{}
	for _, dir := range dirs {
		list, err := fsys.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, base := range list {
			name := path.Join(dir, base)
			found[name] = binary.BigEndian.Uint64(content(t, mustFile(t, fsys.OpenRead, name)))
		}
	}
	return found
}

// TestCrashLosesUnsyncedDirectory: a directory nobody synced the parent of goes with all in it.
func TestCrashLosesUnsyncedDirectory(t *testing.T) {
	mem := vfs.NewMem()
	must(t, mem.MkdirAll("/data/sub"))
	createNumbered(t, mem, "/data/sub/f", 7)
	must(t, mem.SyncDir("/data/sub"))
	must(t, mem.SyncDir("/data"))
	if _, err := mem.CrashClone(vfs.KeepNone, nil).List("/data"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory survived: %v", err)
	}
	must(t, mem.SyncDir("/"))
	clone := mem.CrashClone(vfs.KeepNone, nil)
	if got := names(t, clone, []string{"/data/sub"}); got["/data/sub/f"] != 7 {
		t.Errorf("synced all the way, but found %v", got)
	}
}

// TestReplaceByRename goes through the usual way to replace a file and crashes at every operation:
// it is always wholly old or wholly new, if and only if the new one is synced before the rename.
func TestReplaceByRename(t *testing.T) {
	for _, careful := range []bool{true, false} {
		broken := 0
		for seed := range uint64(200) {
			mem := vfs.NewMem()
			createNumbered(t, mem, "/MANIFEST", 1)
			must(t, mem.SyncDir("/"))
			check := func(vfs.Op) {
				for _, mode := range vfs.CrashModes() {
					clone := mem.CrashClone(mode, rand.New(rand.NewPCG(seed, 2)))
					if err := wholeNumber(clone); err != nil {
						broken++
					}
				}
			}
			fault := vfs.NewFault(mem)
			fault.Add(vfs.Rule{Before: check})
			file := mustFile(t, fault.Create, "/new")
			_, err := file.WriteAt(binary.BigEndian.AppendUint64(nil, 2), 0)
			must(t, err)
			if careful {
				must(t, file.Datasync())
			}
			must(t, fault.Rename("/new", "/MANIFEST"))
			must(t, fault.SyncDir("/"))
			check(vfs.Op{})
		}
		if careful && broken > 0 || !careful && broken == 0 {
			t.Errorf("synced before the rename: %v, broken states: %d", careful, broken)
		}
	}
}

func wholeNumber(fsys vfs.FS) error {
	file, err := fsys.OpenRead("/MANIFEST")
	if err != nil {
		return err
	}
	var b [8]byte
	if _, err := file.ReadAt(b[:], 0); err != nil {
		return err
	}
	if id := binary.BigEndian.Uint64(b[:]); id != 1 && id != 2 {
		return fmt.Errorf("number %d", id)
	}
	return nil
}
