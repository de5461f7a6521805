package store

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/vfs"
)

// sample is a data directory with a checkpoint, log before and after it, and a
// file that has been given up; want is what its queues hold.
type sample struct {
	t    *testing.T
	fs   *vfs.MemFS
	on   vfs.FS // fs, or something around it
	d    *Disk
	want map[string]map[queue.Seq]string // queue -> seq -> body
	acks map[string]map[queue.Seq]string // acknowledged: lost acks may bring them back
	next map[string]queue.Seq
	ids  map[string]queue.ID
}

const sampleDir = "/data"

func newSample(t *testing.T) *sample {
	t.Helper()
	s := &sample{t: t, fs: vfs.NewMem(), want: map[string]map[queue.Seq]string{}, acks: map[string]map[queue.Seq]string{},
		next: map[string]queue.Seq{}, ids: map[string]queue.ID{}}
	s.on = s.fs
	s.open()
	s.define("a", "b", "gone")
	for i := range 300 {
		s.publish(i, "a")
		s.publish(i, "b", "a")
		s.publish(i, "gone")
	}
	s.d.Define(Definition{Kind: QueueDeleted, ID: uint64(s.ids["gone"])})
	delete(s.want, "gone")
	s.settle("a", 0, 460)
	s.settle("b", 0, 230)
	s.checkpoint()
	s.must(s.d.Drop(1))
	s.define("c")
	for i := range 200 {
		s.publish(i, "b")
		s.publish(i, "c")
	}
	s.settle("c", 0, 100)
	s.close()
	return s
}

func (s *sample) open() {
	var err error
	s.d, _, err = OpenDisk(DiskConfig{FS: s.on, Dir: sampleDir, FileBytes: 1 << 20}, &keeping{held: map[queue.ID]map[queue.Seq]Ref{}})
	s.must(err)
}

func (s *sample) close() { s.must(s.d.Close()) }

func (s *sample) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *sample) define(names ...string) {
	for _, name := range names {
		s.ids[name] = queue.ID(len(s.ids) + 1)
		s.want[name], s.acks[name] = map[queue.Seq]string{}, map[queue.Seq]string{}
		s.d.Define(Definition{Kind: QueueDeclared, ID: uint64(s.ids[name]), VHost: "/", Name: name},
			Definition{Kind: Bound, VHost: "/", Source: "amq.direct", Name: name, Key: "k"})
	}
}

// publish puts a message into queues; bodies are of 1 to 4 KB.
func (s *sample) publish(i int, queues ...string) {
	body := fmt.Sprintf("%s %d %s", strings.Join(queues, "+"), i, strings.Repeat("x", 1000+i*10))
	p := Published{TTLMillis: -1, Message: message.Build(nil, "", queues[0], []byte{0, 0}, []byte(body), 0)}
	size := PublishBytes(len(queues), len(p.Message))
	g := s.d.Reserve(1, size, true)
	b, _ := g.Add(size, len(queues))
	PutPublish(b, &p, len(queues))
	for n, name := range queues {
		PutQueue(b, n, s.ids[name], s.next[name], true, 0)
		s.want[name][s.next[name]] = body
		s.next[name]++
	}
	at := g.Done()
	s.d.Commit(false)
	if i%7 == 0 { // several batches
		s.must(s.d.WaitDurable(at))
	}
}

func (s *sample) settle(name string, from, to queue.Seq) {
	s.d.Facts(s.ids[name], []queue.Fact{{Kind: queue.Settled, Seq: from, To: to - 1}})
	for seq := from; seq < to; seq++ {
		s.acks[name][seq] = s.want[name][seq]
		delete(s.want[name], seq)
	}
}

// checkpoint writes one and gives up a file that is not needed any more.
func (s *sample) checkpoint() {
	s.close()
	in, err := Inspect(s.fs, sampleDir)
	s.must(err)
	in.Close()
	s.open()
	c, err := s.d.BeginCheckpoint(s.d.End())
	s.must(err)
	for _, q := range in.Queues {
		c.Define([]Definition{q.Definition})
	}
	c.Define(slices.Concat(in.Exchanges, in.Bindings, []Definition{{Kind: Counters, ID: in.LastID}}))
	for _, q := range in.Queues {
		c.Tails(queue.ID(q.ID), q.m.Tails())
		var at queue.Cursor
		imgs := make([]queue.Image, 1)
		img := &imgs[0]
		for q.m.TakeImage(&at, img) {
			if q.Name == "a" && img.Number == 2 { // this one is not in memory
				cold, err := s.d.SpillPages(queue.ID(q.ID), imgs)
				s.must(err)
				img.Each(func(i int) {
					cold[0].Messages++
					cold[0].BodyBytes += int64(img.Entries[i].BodyBytes)
				})
				img.Cold = cold[0]
			}
			c.Page(queue.ID(q.ID), img)
		}
	}
	c.Blobs()
	s.must(c.Finish())
}

// contents are the messages of each queue as an inspection finds them.
func contents(t *testing.T, in *Inspection) map[string]map[queue.Seq]string {
	t.Helper()
	got := map[string]map[queue.Seq]string{}
	for _, q := range in.Queues {
		got[q.Name] = map[queue.Seq]string{}
	}
	if err := in.Records(func(e seglog.Entry) error {
		return in.eachHeld(e, func(p *Published, holders []holder) error {
			for _, h := range holders {
				body, err := in.Body(nil, p)
				if err != nil {
					t.Error(err)
				}
				got[h.q.Name][h.seq] = string(body)
			}
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	for _, q := range in.Queues {
		if len(got[q.Name]) != q.Messages {
			t.Errorf("queue %s is said to hold %d messages, but %d can be read", q.Name, q.Messages, len(got[q.Name]))
		}
	}
	return got
}

func TestInspectWhatIsThere(t *testing.T) {
	s := newSample(t)
	in, err := Inspect(s.fs, sampleDir)
	s.must(err)
	defer in.Close()
	if in.Damaged() || !in.Log.Clean || in.Checkpoint != "ckpt-1" || in.LastID != 4 || len(in.Bindings) != 3 {
		t.Errorf("damaged %v, clean %v, checkpoint %s, last id %d, %d bindings: %v",
			in.Damaged(), in.Log.Clean, in.Checkpoint, in.LastID, len(in.Bindings), in.Bad)
	}
	if files := in.Log.Files; len(files) < 3 || files[0].Name == "log-00000001" || !files[0].Below || files[len(files)-1].Below {
		t.Errorf("files %+v", files)
	}
	if got := contents(t, in); !maps.EqualFunc(got, s.want, maps.Equal) {
		t.Errorf("the queues do not hold what they should")
	}
	if _, err := Inspect(s.fs, sampleDir); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("a directory in use: %v", err)
	}
}

func TestSalvageOfAWholeDirectory(t *testing.T) {
	s := newSample(t)
	salvaged(t, s.fs, s, true)
}

// salvaged salvages and checks the copy: it is whole, has what was reported, and
// nothing that never was. all wants every message.
func salvaged(t *testing.T, fs *vfs.MemFS, s *sample, all bool) {
	t.Helper()
	in, err := Inspect(fs, sampleDir)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := in.Salvage("/copy"); err != nil {
		t.Fatal(err)
	}
	out, err := Inspect(fs, "/copy")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if out.Damaged() || !out.Log.Clean {
		t.Fatalf("the copy is damaged: %v", out.Bad)
	}
	got, reported := contents(t, out), contents(t, in)
	if !maps.EqualFunc(got, reported, maps.Equal) {
		t.Error("the copy does not hold what was reported")
	}
	for name, messages := range got {
		for seq, body := range messages {
			id := strings.TrimPrefix(name, "salvaged-queue-")
			for other, n := range s.ids {
				if id == fmt.Sprint(n) {
					name = other
				}
			}
			if name != "gone" && s.want[name][seq] != body && s.acks[name][seq] != body {
				t.Fatalf("queue %s has a message %d that never was: %.20q", name, seq, body)
			}
		}
	}
	if all && !maps.EqualFunc(got, s.want, maps.Equal) {
		t.Error("something is missing in the copy")
	}
	if err := in.Salvage("/copy"); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("a second salvage to the same place: %v", err)
	}
}

// TestInspectDamage breaks one thing after the other. Whatever a start refuses,
// the inspection calls damaged; what the inspection calls whole has every
// message; and what is salvaged never was anything else.
func TestInspectDamage(t *testing.T) {
	s := newSample(t)
	rng := rand.New(rand.NewPCG(1, 2))
	rounds := 150
	if testing.Short() {
		rounds = 30
	}
	names, err := s.fs.List(sampleDir)
	s.must(err)
	damaged := 0
	for round := range rounds {
		fs := s.fs.Clone()
		name := path.Join(sampleDir, names[rng.IntN(len(names))])
		what := breakFile(t, rng, fs, name)
		in, err := Inspect(fs, sampleDir)
		if err != nil {
			t.Fatalf("round %d: %s of %s: %v", round, what, name, err)
		}
		found := in.Damaged()
		if found {
			damaged++
		} else if got := contents(t, in); !maps.EqualFunc(got, s.want, maps.Equal) {
			t.Errorf("round %d: %s of %s: called whole, but messages are missing", round, what, name)
		}
		in.Close()
		salvaged(t, fs, s, !found)
		d, _, err := OpenDisk(DiskConfig{FS: fs, Dir: sampleDir, FileBytes: 1 << 20}, nothing{})
		if err == nil {
			d.Abandon()
		} else if !found {
			t.Errorf("round %d: %s of %s: called whole, but a start says %v", round, what, name, err)
		}
	}
	if damaged < rounds/4 {
		t.Errorf("only %d of %d rounds damaged anything", damaged, rounds)
	}
}

// breakFile damages a file somewhere in what is used of it, and says how.
func breakFile(t *testing.T, rng *rand.Rand, fs *vfs.MemFS, name string) string {
	t.Helper()
	size, err := fs.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	size = max(min(size, 900<<10), 1)
	at := rng.Int64N(size)
	kind := rng.IntN(4)
	switch {
	case kind == 0:
		err = vfs.FlipBit(fs, name, at*8)
	case kind == 1:
		err = vfs.Overwrite(fs, name, at/4096*4096, make([]byte, 4096))
	case kind == 2:
		err = vfs.CutTo(fs, name, at)
	default:
		err = fs.Remove(name)
	}
	if err != nil && !strings.HasSuffix(name, "LOCK") {
		t.Fatal(err)
	}
	return fmt.Sprintf("kind %d at %d", kind, at)
}

// gate stops every fdatasync while it is armed.
type gate struct {
	vfs.FS
	armed          atomic.Bool
	entered, leave chan struct{}
}

func (g *gate) Create(name string) (vfs.File, error) {
	f, err := g.FS.Create(name)
	return &gatedFile{f, g}, err
}

func (g *gate) Open(name string) (vfs.File, error) {
	f, err := g.FS.Open(name)
	return &gatedFile{f, g}, err
}

type gatedFile struct {
	vfs.File
	g *gate
}

func (f *gatedFile) Datasync() error {
	if f.g.armed.Load() {
		f.g.entered <- struct{}{}
		<-f.g.leave
	}
	return f.File.Datasync()
}

// TestInspectAfterACrash cuts the power again and again between a write and its
// sync: the tail may be torn, but nothing is damaged, every confirmed message is
// there, and nothing else is.
func TestInspectAfterACrash(t *testing.T) {
	s := newSample(t)
	g := &gate{FS: s.fs, entered: make(chan struct{}), leave: make(chan struct{})}
	s.on = g
	s.open()
	rng := rand.New(rand.NewPCG(3, 4))
	modes := vfs.CrashModes()
	torn := 0
	for round := range 60 {
		confirmed := len(s.want["a"])
		g.armed.Store(true)
		for i := range 1 + rng.IntN(6) {
			s.publish(i+1, "a") // below 7 it does not wait
		}
		<-g.entered
		mode := modes[rng.IntN(len(modes))]
		fs := s.fs.CrashClone(mode, rng)
		g.armed.Store(false)
		g.leave <- struct{}{}
		in, err := Inspect(fs, sampleDir)
		s.must(err)
		if in.Damaged() {
			t.Errorf("round %d, %v: called damaged: %v", round, mode, in.Bad)
		}
		got := contents(t, in)["a"]
		for seq, body := range got {
			if s.want["a"][seq] != body {
				t.Fatalf("round %d, %v: message %d is not what was sent", round, mode, seq)
			}
		}
		if len(got) < confirmed {
			t.Errorf("round %d, %v: %d messages, %d were confirmed", round, mode, len(got), confirmed)
		}
		if in.Log.TornBytes > 0 {
			torn++
		}
		in.Close()
		s.must(s.d.WaitDurable(s.d.End()))
	}
	if torn == 0 {
		t.Error("no tail was torn")
	}
	s.close()
}

// TestInspectWithoutManifest: it can be made up.
func TestInspectWithoutManifest(t *testing.T) {
	s := newSample(t)
	s.must(s.fs.Remove(path.Join(sampleDir, "MANIFEST")))
	in, err := Inspect(s.fs, sampleDir)
	s.must(err)
	if !in.Damaged() || in.Checkpoint != "ckpt-1" || in.Log.Lost() != 0 {
		t.Errorf("damaged %v, checkpoint %q, lost %d", in.Damaged(), in.Checkpoint, in.Log.Lost())
	}
	in.Close()
	salvaged(t, s.fs, s, true)
}
