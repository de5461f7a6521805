package engine

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/vfs"
	"github.com/warrenmq/warren/internal/wire"
)

// faultRun is a fixed workload on a disk of which one operation fails. It notes
// what was confirmed or answered.
type faultRun struct {
	t         *testing.T
	blobBytes uint64
	e         *Engine
	failed    chan struct{}
	confirmed map[uint64]bool
	refused   map[uint64]bool // basic.nack
	declared  []string
	taken     map[uint64]bool // acknowledged
	acked     map[uint64]bool // and durable since
}

// run works until the engine fails or the workload ends.
func (r *faultRun) run(fsys vfs.FS) error {
	c := durableConfig(fsys, newHandClock())
	c.Disk.OnFailure = func(error) { close(r.failed) }
	c.Disk.BlobBytes = r.blobBytes
	var err error
	if r.e, err = New(c); err != nil {
		return err
	}
	conn, ch := open(r.t, r.e)
	must(r.t, ch.SelectConfirm())
	sent := []uint64{}
	read := func() {
		for _, m := range drain(r.t, conn) {
			switch a := m.method.(type) {
			case *wire.BasicNack: // never several at once: they fail one by one
				r.refused[sent[a.DeliveryTag-1]] = true
			case *wire.BasicAck:
				for _, id := range sent[:a.DeliveryTag] {
					r.confirmed[id] = !r.refused[id]
				}
			}
		}
	}
	for round := range 6 {
		name := fmt.Sprint("q", round%2)
		if _, err := ch.DeclareQueue(&wire.QueueDeclare{Queue: name, Durable: true}); err != nil {
			break
		}
		r.declared = append(r.declared, name)
		for i := range 5 {
			id := uint64(round*10 + i + 1)
			must(r.t, send(ch, publishing{key: name, id: id, bodyBytes: 120_000, persistent: true}))
			sent = append(sent, id)
			conn.Flush()
			if r.e.settled() != nil {
				break
			}
		}
		if round == 0 { // long enough for a page of its index to leave memory
			for id := range uint64(faultFlood) {
				must(r.t, send(ch, publishing{key: name, id: id + 1001, bodyBytes: 10, persistent: true}))
				sent = append(sent, id+1001)
			}
			conn.Flush()
			_ = r.e.settled()
		}
		read()
		r.takeOne(name)
		_ = r.e.checkpoint(func() bool { return false })
		r.e.janitor.round()
	}
	read()
	return nil
}

const faultFlood = 510

// takeOne acknowledges the message at the head.
func (r *faultRun) takeOne(name string) {
	conn, ch := open(r.t, r.e)
	defer conn.Close()
	ok, err := ch.Get(name, false)
	if !ok || err != nil {
		return
	}
	for _, m := range drain(r.t, conn) {
		if ok, is := m.method.(*wire.BasicGetOk); is && ch.Ack(ok.DeliveryTag, false) == nil {
			r.taken[m.id] = true
			conn.Flush()
			if r.e.settled() == nil {
				r.acked[m.id] = true
			}
		}
	}
}

// TestEveryOperationFails counts the disk operations of a workload and then lets
// each of them fail in turn (some of them; with ENGINE_FAULTS=all every one), for
// good or only once, with EIO and ENOSPC: nothing is confirmed or answered that
// the next start does not have, nothing hangs, and the engine says that it has
// failed or goes on.
func TestEveryOperationFails(t *testing.T) {
	for name, blobBytes := range map[string]uint64{"bodies in the log": 0, "bodies in blobs": 50_000} {
		t.Run(name, func(t *testing.T) { everyOperationFails(t, blobBytes) })
	}
}

func everyOperationFails(t *testing.T, blobBytes uint64) {
	step := 3
	if blobBytes > 0 {
		step = 10
	}
	if os.Getenv("ENGINE_FAULTS") == "all" {
		step = 1
	}
	count := vfs.NewFault(vfs.NewMem())
	runFault(t, count, blobBytes, nil)
	n := count.Count(vfs.OpsChange)
	failures, runs := 0, 0
	for k := 1; k <= n; k += step {
		for _, what := range []error{syscall.EIO, syscall.ENOSPC} {
			runs++
			if runOneFault(t, k, blobBytes, what, k%2 == 0) {
				failures++
			}
		}
		if t.Failed() {
			t.Fatalf("operation %d of %d", k, n)
		}
	}
	t.Logf("%d operations; %d of %d failures stopped the engine", n, failures, runs)
	if failures == 0 || failures == runs {
		t.Error("all failures end the same")
	}
}

func runFault(t *testing.T, fsys vfs.FS, blobBytes uint64, expect *faultRun) *faultRun {
	t.Helper()
	r := &faultRun{t: t, blobBytes: blobBytes, refused: map[uint64]bool{}, failed: make(chan struct{}), confirmed: map[uint64]bool{}, taken: map[uint64]bool{}, acked: map[uint64]bool{}}
	over := make(chan error, 1)
	go func() { over <- r.run(fsys) }()
	select {
	case err := <-over:
		if err != nil && expect == nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it hangs")
	}
	return r
}

func runOneFault(t *testing.T, k int, blobBytes uint64, what error, sticky bool) (stopped bool) {
	t.Helper()
	mem := vfs.NewMem()
	fault := vfs.NewFault(mem)
	fault.Add(vfs.Rule{Kinds: vfs.OpsChange, Nth: k, Sticky: sticky, Err: what, ShortBytes: int64(k%3) * 700})
	r := runFault(t, fault, blobBytes, &faultRun{})
	if r.e == nil {
		return true // it did not start, and said so
	}
	if err := r.e.Err(); err != nil {
		stopped = true
		if !errors.Is(err, what) {
			t.Errorf("operation %d fails with %v, the engine says %v", k, what, err)
		}
		select {
		case <-r.failed:
		case <-time.After(10 * time.Second):
			t.Errorf("operation %d: nobody hears of the failure", k)
		}
	} else if n := r.answered(); n != 30+faultFlood || len(r.refused) > 0 && blobBytes == 0 {
		t.Errorf("operation %d (%v): the engine goes on and has answered %d of %d, %d with a nack", k, what, n, 30+faultFlood, len(r.refused))
	}
	left := map[string]*vfs.MemFS{"power loss": mem.CrashClone(vfs.KeepNone, nil),
		"power loss that keeps all": mem.CrashClone(vfs.KeepAll, nil), "kill": mem.Clone()}
	r.e.Abandon()
	for how, disk := range left {
		when := fmt.Sprintf("operation %d (%v, sticky %t), then %s", k, what, sticky, how)
		e, err := New(durableConfig(disk, newHandClock()))
		if err != nil {
			t.Errorf("%s: does not start: %v", when, err)
			continue
		}
		r.compare(e, when)
		e.Abandon()
	}
	return stopped
}

// answered is how many publishes were confirmed or refused.
func (r *faultRun) answered() int {
	n := len(r.refused)
	for _, ok := range r.confirmed {
		if ok {
			n++
		}
	}
	return n
}

// compare looks whether a new engine has what the old one had promised.
func (r *faultRun) compare(e *Engine, when string) {
	there := map[uint64]int{}
	for _, name := range r.declared {
		if e.vhosts["/"].top.Queue(name) == nil {
			r.t.Errorf("%s: queue %s was declared and is lost", when, name)
			return
		}
	}
	for _, q := range e.allQueues() {
		for _, id := range idsIn(r.t, e, q.def.Name) {
			there[id]++
		}
	}
	for id, ok := range r.confirmed {
		if ok && there[id] == 0 && !r.taken[id] {
			r.t.Errorf("%s: message %d was confirmed and is lost", when, id)
		}
	}
	for id, n := range there {
		if r.refused[id] {
			r.t.Errorf("%s: message %d was refused and is there", when, id)
		}
		if n > 1 || r.acked[id] {
			r.t.Errorf("%s: message %d is there %d times; acknowledged before: %t", when, id, n, r.acked[id])
		}
	}
}

// TestDamagedBodyIsNeverDelivered damages a body on the disk while the engine
// runs with next to nothing in memory: the message is set aside and those behind
// it come, the same with a dead letter, and a later start has it still.
func TestDamagedBodyIsNeverDelivered(t *testing.T) {
	for _, how := range []string{"get", "consume", "dead letter"} {
		t.Run(how, func(t *testing.T) {
			fsys := vfs.NewMem()
			e := openDurable(t, fsys)
			conn, ch := open(t, e)
			declare(t, ch, &wire.QueueDeclare{Queue: "q", Durable: true, Arguments: arguments(
				"x-message-ttl", 3_600_000, "x-dead-letter-exchange", "", "x-dead-letter-routing-key", "dead")})
			declare(t, ch, &wire.QueueDeclare{Queue: "dead", Durable: true})
			for id := range uint64(30) {
				must(t, send(ch, publishing{key: "q", id: id + 1, bodyBytes: 200_000, persistent: true}))
				conn.Flush()
				must(t, e.settled())
			}
			damageBody(t, e, fsys, "q", 3)
			got := map[uint64]bool{}
			switch how {
			case "get":
				for _, id := range idsIn(t, e, "q") {
					got[id] = true
				}
			case "consume":
				consume(t, ch, Consume{Queue: "q", Tag: "t"})
				waitIDs(t, conn, got, 29)
			case "dead letter":
				e.clock.(*handClock).advance(2 * time.Hour)
				for _, id := range idsIn(t, e, "dead") {
					got[id] = true
				}
			}
			if len(got) != 29 || got[3] {
				t.Errorf("%d of 30 messages came, the damaged one among them: %t", len(got), got[3])
			}
			// A start that reads the record again refuses; one from a checkpoint has
			// the message still.
			if err := e.checkpoint(func() bool { return false }); err != nil {
				t.Fatal(err)
			}
			clone := fsys.Clone()
			e.Abandon()
			e = openDurable(t, clone)
			if list := e.vhosts["/"].top.Queue("q").Runtime.(*Queue).walkAll(); how != "consume" && len(list) != 1 {
				t.Errorf("after a start the queue holds %d messages, want the damaged one", len(list))
			}
			e.Abandon()
		})
	}
}

// damageBody flips a bit in the body of a message that is not in memory.
func damageBody(t *testing.T, e *Engine, fsys vfs.FS, queue string, number int) {
	t.Helper()
	q := e.vhosts["/"].top.Queue(queue).Runtime.(*Queue)
	var n int
	var file string
	var at int64
	for _, h := range q.walkAll() {
		if n++; n == number {
			file, at = refPlace(h.Entry.Ref)
		}
	}
	if err := vfs.FlipBit(fsys, "/data/"+file, (at+100_000)*8); err != nil {
		t.Fatal(err)
	}
	if e.resident(q.walkAll()[number-1].Entry.Ref) {
		t.Fatal("the damaged message is in memory")
	}
}

// waitIDs reads deliveries until there are so many.
func waitIDs(t *testing.T, c *Conn, got map[uint64]bool, n int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for len(got) < n && time.Now().Before(deadline) {
		for _, r := range drain(t, c) {
			got[r.id] = true
		}
		yield()
	}
}

// TestDamagedFiles flips bits in and cuts every file of a data directory: a
// start says ErrDamaged, or has the same messages, or fewer of the last ones.
func TestDamagedFiles(t *testing.T) {
	fsys := damageSample(t)
	names, err := fsys.List("/data")
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[string]int{}
	for _, name := range names {
		size, err := fsys.Stat("/data/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for i := range int64(60) {
			at := min(size-1, i*i*i*i*size/(60*60*60*60)+i)
			if at < 0 {
				continue
			}
			damaged := fsys.Clone()
			if i%4 == 0 {
				err = vfs.CutTo(damaged, "/data/"+name, at)
			} else {
				err = vfs.FlipBit(damaged, "/data/"+name, at*8+i%8)
			}
			if err != nil {
				t.Fatal(err)
			}
			outcomes[damagedStart(t, damaged, fmt.Sprintf("%s at %d", name, at))]++
		}
	}
	t.Log(outcomes)
	if outcomes["refused"] == 0 || outcomes["same"] == 0 {
		t.Errorf("some outcomes never came: %v", outcomes)
	}
}

// TestEveryOperationOfAStartFails lets each disk operation of a start fail: it
// says so or goes on, and the next one has everything.
func TestEveryOperationOfAStartFails(t *testing.T) {
	sample := damageSample(t).CrashClone(vfs.KeepAll, nil)
	count := vfs.NewFault(sample.Clone())
	openDurable(t, count).Abandon()
	n := count.Count(vfs.OpsChange)
	refused := 0
	for k := 1; k <= n; k++ {
		for _, what := range []error{syscall.EIO, syscall.ENOSPC} {
			mem := sample.Clone()
			fault := vfs.NewFault(mem)
			fault.Add(vfs.Rule{Kinds: vfs.OpsChange, Nth: k, Sticky: k%2 == 0, Err: what, ShortBytes: int64(k%3) * 700})
			e, err := New(durableConfig(fault, newHandClock()))
			switch {
			case err == nil:
				e.Abandon()
			case !errors.Is(err, what):
				t.Errorf("operation %d fails with %v, the start with %v", k, what, err)
			default:
				refused++
			}
			for _, left := range []*vfs.MemFS{mem.CrashClone(vfs.KeepNone, nil), mem.CrashClone(vfs.KeepAll, nil), mem.Clone()} {
				if how := damagedStart(t, left, fmt.Sprintf("operation %d of %d (%v)", k, n, what)); how != "same" {
					t.Errorf("operation %d of %d (%v): the next start: %s", k, n, what, how)
				}
			}
		}
	}
	t.Logf("%d operations, %d starts refused", n, refused)
}

// TestEveryReadOfAStartFails lets each operation that looks at the directory fail,
// of the manifest, the checkpoint and the log: the start is refused with that error,
// which is no damage, or does without; nothing is changed by it.
func TestEveryReadOfAStartFails(t *testing.T) {
	const reads = vfs.OpOpen | vfs.OpOpenRead | vfs.OpRead | vfs.OpSize | vfs.OpList | vfs.OpStat | vfs.OpLock
	sample := damageSample(t).CrashClone(vfs.KeepAll, nil)
	count := vfs.NewFault(sample.Clone())
	openDurable(t, count).Abandon()
	n := count.Count(reads)
	refused, manifest := 0, 0
	for k := 1; k <= n; k++ {
		mem := sample.Clone()
		fault := vfs.NewFault(mem)
		fault.Add(vfs.Rule{Kinds: reads, Nth: k, Sticky: k%2 == 0, Err: syscall.EIO, Before: func(op vfs.Op) {
			if strings.HasSuffix(op.Name, "MANIFEST") {
				manifest++
			}
		}})
		e, err := New(durableConfig(fault, newHandClock()))
		switch {
		case err == nil:
			e.Abandon()
		case !errors.Is(err, syscall.EIO):
			t.Errorf("operation %d fails with an input/output error, the start with %v", k, err)
		case errors.Is(err, seglog.ErrDamaged):
			t.Errorf("operation %d fails with an input/output error, which is called damage: %v", k, err)
		default:
			refused++
		}
		if how := damagedStart(t, mem, fmt.Sprintf("operation %d of %d", k, n)); how != "same" {
			t.Errorf("operation %d of %d: the next start: %s", k, n, how)
		}
	}
	t.Logf("%d operations, %d starts refused", n, refused)
	if refused < n/2 || manifest == 0 {
		t.Errorf("of %d operations that fail %d have the start refused; %d were the manifest's", n, refused, manifest)
	}
}

// damageSample is a directory after a kill with checkpoint and several files:
// messages 11 to 60 in q.
func damageSample(t *testing.T) *vfs.MemFS {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	conn, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "q", Durable: true})
	for id := range uint64(60) {
		must(t, send(ch, publishing{key: "q", id: id + 1, bodyBytes: 50_000, persistent: true}))
		conn.Flush()
		must(t, e.settled())
		if id == 30 {
			for range 10 {
				if _, err := ch.Get("q", true); err != nil {
					t.Fatal(err)
				}
				drain(t, conn)
			}
			if err := e.checkpoint(func() bool { return false }); err != nil {
				t.Fatal(err)
			}
		}
	}
	must(t, e.settled())
	clone := fsys.Clone()
	e.Abandon()
	return clone
}

// setAside is how many messages of a queue are out with nobody.
func setAside(e *Engine, name string) int {
	q := e.vhosts["/"].top.Queue(name).Runtime.(*Queue)
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.m.UnackedCount()
}

// damagedStart starts on a damaged directory and says how that went.
func damagedStart(t *testing.T, fsys vfs.FS, what string) string {
	t.Helper()
	e, err := New(durableConfig(fsys, newHandClock()))
	if err != nil {
		if !strings.Contains(err.Error(), "damaged") && !strings.Contains(err.Error(), "does not understand") &&
			!strings.Contains(err.Error(), "version") {
			t.Errorf("%s: the error does not say what is wrong: %v", what, err)
		}
		return "refused"
	}
	defer e.Abandon()
	ids := idsIn(t, e, "q")
	last := uint64(10)
	missing := 0
	for _, id := range ids {
		if id <= last || id > 60 {
			t.Errorf("%s: message %d after %d", what, id, last)
		}
		missing += int(id - last - 1)
		last = id
	}
	switch {
	case missing == 0 && last == 60:
		return "same"
	case missing == 0 && last > 55:
		return "last ones gone"
	case setAside(e, "q") == missing && last == 60:
		return "set aside" // and said so; in the queue still
	}
	t.Errorf("%s: %d messages are missing, the last one is %d", what, missing, last)
	return "wrong"
}
