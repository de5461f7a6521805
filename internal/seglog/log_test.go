package seglog

import (
	"fmt"
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
)

// put appends one record and returns the position at which it is durable.
func put(l *Log, payload string, force bool) (Place, LSN) {
	r := l.Reserve(1, RecordOverhead+len(payload), force)
	b, at, _ := r.Add(7, len(payload))
	copy(b, payload)
	return at, r.Done()
}

func open(t *testing.T, c Config) (*Log, []string, *Report) {
	t.Helper()
	var got []string
	l, rep, err := Open(c, func(e Entry) error {
		got = append(got, string(e.Payload))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, got, rep
}

func TestReopen(t *testing.T) {
	for _, abandon := range []bool{false, true} {
		t.Run(fmt.Sprintf("abandon=%v", abandon), func(t *testing.T) {
			c := Config{FS: vfs.OS{}, Dir: t.TempDir(), FileBytes: 2 << 20, FirstFileBytes: 1 << 20, Spares: 1}
			var want []string
			for round := range 4 {
				l, got, rep := open(t, c)
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("round %d: got %d records, want %d (%+v)", round, len(got), len(want), rep)
				}
				var last LSN
				for i := range 3000 {
					s := fmt.Sprintf("round %d record %d %s", round, i, string(make([]byte, i%2000)))
					want = append(want, s)
					_, last = put(l, s, i%7 == 0)
				}
				if err := l.WaitDurable(last); err != nil {
					t.Fatal(err)
				}
				if abandon {
					l.Abandon()
				} else if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestLoadEvicted(t *testing.T) {
	c := Config{FS: vfs.OS{}, Dir: t.TempDir(), FileBytes: 8 << 20, FirstFileBytes: 4 << 20, ResidentBytes: 1 << 20}
	l, _, _ := open(t, c)
	defer l.Close()
	type rec struct {
		at Place
		s  string
	}
	var all []rec
	var last LSN
	for i := range 40 {
		s := fmt.Sprintf("%d-%s", i, string(make([]byte, 100_000*(i%25))))
		at, p := put(l, s, true)
		all = append(all, rec{at, s})
		last = p
	}
	if err := l.WaitDurable(last); err != nil {
		t.Fatal(err)
	}
	loaded := 0
	for _, r := range all {
		got, ok := l.Resident(r.at)
		if !ok {
			loaded++
			if err := l.Load(r.at); err != nil {
				t.Fatal(err)
			}
			if got, ok = l.Resident(r.at); !ok {
				t.Fatal("not resident after Load")
			}
		}
		if string(got.Payload) != r.s {
			t.Fatalf("wrong bytes at %x", r.at)
		}
	}
	if loaded == 0 {
		t.Fatal("nothing had been evicted")
	}
}
