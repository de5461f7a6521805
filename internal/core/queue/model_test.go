package queue

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestMachineIsTheNaiveQueue drives the machine and the naive queue with the
// same inputs and compares, after every one: deliveries, dead letters, released
// references, counts, and the persistent messages that replaying the facts
// yields.
func TestMachineIsTheNaiveQueue(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		choose := func(label string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(rt, label) }
		p := newPair(rt, choose, drawConfig(choose))
		for range choose("steps", 1, 120) {
			p.step()
			p.check()
		}
		p.finish()
	})
}

// TestMachineOverManyPages is the same with long queues: pages fill, empty in
// the middle, are given back and used again.
func TestMachineOverManyPages(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 1))
			choose := func(_ string, lo, hi int) int { return lo + rng.IntN(hi-lo+1) }
			cfg := NoLimits()
			cfg.Durable = true
			cfg.HasDLX = seed%2 == 1
			if seed%4 == 3 {
				cfg.AtLeastOnce, cfg.Overflow = true, RejectPublish
			}
			if seed%4 == 2 {
				cfg.MaxPriority = 1
			}
			p := newPair(t, choose, cfg)
			p.burst = 400
			p.persistentOnly = true
			for range 150 {
				p.step()
				p.check()
				if len(p.n.list) > 1500 {
					p.drain(choose("left", 0, 600))
				}
			}
			p.finish()
		})
	}
}

func drawConfig(choose func(string, int, int) int) Config {
	cfg := NoLimits()
	some := func(label string) bool { return choose(label, 0, 2) == 0 }
	cfg.Durable = choose("durable", 0, 2) > 0
	cfg.AutoDelete = some("auto-delete")
	cfg.HasDLX = choose("dlx", 0, 1) == 0
	cfg.SingleActive = some("single active")
	cfg.Overflow = Overflow(choose("overflow", 0, 2))
	cfg.AtLeastOnce = cfg.HasDLX && cfg.Overflow != DropHead && some("at least once")
	if some("queue ttl") {
		cfg.MessageTTLMs = int64(choose("ttl ms", 0, 30))
	}
	if some("length limit") {
		cfg.MaxLength = int64(choose("length", 0, 6))
	}
	if some("bytes limit") {
		cfg.MaxLengthBytes = int64(choose("bytes", 0, 12))
	}
	if some("delivery limit") {
		cfg.DeliveryLimit = int64(choose("deliveries", 0, 2))
	}
	if some("delayed retry") {
		cfg.Retry = RetryDelay{Failed: choose("failed", 0, 1) == 1, GivenBack: choose("given back", 0, 1) == 1,
			MinMs: int64(choose("min", 1, 30)), MaxMs: int64(choose("max", 1, 60))}
	}
	if some("priorities") {
		cfg.MaxPriority = choose("max priority", 0, 3)
	}
	return cfg
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

// pair is the machine and the naive queue, side by side.
type pair struct {
	t              fataler
	choose         func(label string, lo, hi int) int
	burst          int // most messages that one step publishes or settles
	persistentOnly bool

	m   *Machine
	out Output
	n   *naive
	now Time

	consumers map[int]*Consumer // by id
	nextID    int
	nextRef   uint64
	refs      map[uint64]bool // the ledger: references that the machine holds
	log       map[Seq]*replayed
	seqs      map[Seq]bool // ever used
	cursor    Cursor
	lastOp    string
	shelf     *shelf // of cold pages
	spilled   int
	coldPurge bool // the purge that goes on meets cold pages
}

// replayed is what a log's replay knows of a message.
type replayed struct {
	ref   uint64
	out   bool
	tries Tries
	died  Reason
}

func newPair(t fataler, choose func(string, int, int) int, cfg Config) *pair {
	return &pair{
		t: t, choose: choose, burst: 6, now: 1e18, m: New(cfg, 1e18), n: newNaive(cfg),
		consumers: map[int]*Consumer{}, refs: map[uint64]bool{}, log: map[Seq]*replayed{}, seqs: map[Seq]bool{},
	}
}

// shared is the gate of a consumer in both queues: the machine asks it, the
// naive queue has a credit count of its own.
type shared struct {
	id, credit int
}

func (g *shared) Take(int) bool {
	if g.credit == 0 {
		return false
	}
	g.credit--
	return true
}

func (p *pair) step() {
	switch op := p.choose("op", 0, 18); op {
	case 0, 1, 2, 3, 4:
		p.publish()
	case 5, 6, 7:
		p.settleSome("ack")
	case 8, 9:
		p.settleSome("requeue")
	case 10:
		p.settleSome("reject")
	case 11:
		p.settleSome("put back")
	case 12:
		p.finishMoves()
	case 13:
		p.poll()
	case 14:
		p.subscribe()
	case 15:
		p.unsubscribeOrCredit()
	case 16:
		p.pass()
	case 17:
		p.purgeOrRelocate()
	case 18:
		p.settleSome("fail")
	}
}

func (p *pair) publish() {
	p.lastOp = "publish"
	for range p.choose("messages", 1, p.burst) {
		p.nextRef++
		nm := &naiveMessage{ref: p.nextRef, bytes: uint32(p.choose("bytes", 0, 5))}
		msg := Message{Entry: Entry{Ref: nm.ref, BodyBytes: nm.bytes}, TTLMillis: -1}
		if p.persistentOnly || p.choose("persistent", 0, 1) == 1 {
			msg.Flags |= Persistent
			nm.persistent = p.n.cfg.Durable
		}
		if p.choose("has ttl", 0, 4) == 0 {
			msg.TTLMillis = int64(p.choose("ttl", 0, 40))
		}
		msg.Priority = uint8(p.choose("priority", 0, 4))
		p.refs[nm.ref] = true
		want := p.n.enqueue(p.now, nm, msg.Priority, msg.TTLMillis)
		if got := p.m.Enqueue(p.now, msg, &p.out); got != want {
			p.t.Fatalf("verdict %d, want %d", got, want)
		}
		if want != Accepted {
			delete(p.refs, nm.ref)
		}
		p.compareOutput()
	}
}

// inState are the messages in a state whose seq is known.
func (p *pair) inState(s naiveState) (list []*naiveMessage) {
	for _, m := range p.n.list {
		if m.state == s {
			list = append(list, m)
		}
	}
	return list
}

func (p *pair) settleSome(how string) {
	p.lastOp = how
	list := p.inState(naiveOut)
	if len(list) == 0 {
		return
	}
	at := p.choose("from", 0, len(list)-1)
	stride := p.choose("stride", 1, 3) // out of order: leaves gaps
	n := p.choose("settled", 1, p.burst)
	var taken []*naiveMessage
	for i := at; i < len(list) && len(taken) < n; i += stride {
		taken = append(taken, list[i])
	}
	if p.choose("backwards", 0, 1) == 1 {
		slices.Reverse(taken)
	}
	for _, m := range taken {
		p.settle(m, how)
	}
	p.n.requeued(p.now)
	p.m.Requeued(p.now, &p.out)
	p.compareOutput()
}

func (p *pair) settle(m *naiveMessage, how string) {
	ok := false
	before := len(p.out.Facts)
	var foreseen []Fact
	switch {
	case how == "requeue":
		foreseen = p.m.ForeseeReturn(slices.Clone(p.out.Facts), m.seq, GivenBack)
	case how == "fail":
		foreseen = p.m.ForeseeReturn(slices.Clone(p.out.Facts), m.seq, Failed)
	case how == "reject":
		foreseen = p.m.ForeseeReject(slices.Clone(p.out.Facts), m.seq)
	case how == "ack":
		foreseen = p.m.Foresee(slices.Clone(p.out.Facts), m.seq)
	}
	switch how {
	case "ack":
		p.n.end(m, true)
		ok = p.m.Settle(m.seq, &p.out)
	case "requeue", "put back", "fail":
		as := map[string]How{"requeue": GivenBack, "put back": Undelivered, "fail": Failed}[how]
		p.n.giveBack(m, as)
		ok = p.m.Return(m.seq, as, &p.out)
	case "reject":
		p.n.die(m, Rejected)
		ok = p.m.Reject(m.seq, &p.out)
	}
	if !ok {
		p.t.Fatalf("%s of %d: not out", how, m.ref)
	}
	if foreseen != nil && !slices.Equal(foreseen, p.out.Facts) {
		p.t.Fatalf("%s of %d: facts after %d are %v, foreseen were %v", how, m.ref, before, p.out.Facts, foreseen)
	}
	var spare Output
	if f := p.m.Foresee(nil, m.seq); f != nil {
		p.t.Fatalf("%s of %d: it is not out and would record %v", how, m.ref, f)
	}
	if p.m.Settle(m.seq, &spare) || p.m.Return(m.seq, Failed, &spare) || p.m.Reject(m.seq, &spare) {
		p.t.Fatalf("%s of %d: and is still out", how, m.ref)
	}
	if c := m.taker; c != nil {
		c.credit++
		p.n.unblock(c)
		if mc := p.consumers[c.id]; mc != nil {
			mc.Gate.(*shared).credit++
			p.m.Unblock(mc)
		}
	}
}

func (p *pair) finishMoves() {
	p.lastOp = "finish moves"
	for _, m := range p.inState(naiveMoving) {
		switch how := p.choose("finish", 0, 3); {
		case how == 0:
			continue
		case how == 1 && p.n.cfg.AtLeastOnce:
			p.n.park(p.now, m)
			if !p.m.Park(p.now, m.seq) || p.m.Park(p.now, m.seq) {
				p.t.Fatalf("Park of %d: not once", m.ref)
			}
			continue
		}
		p.n.moved(m)
		if !p.m.FinishMove(m.seq, &p.out) || p.m.FinishMove(m.seq, &p.out) {
			p.t.Fatalf("FinishMove of %d: not once", m.ref)
		}
		p.compareOutput()
	}
}

func (p *pair) poll() {
	p.lastOp = "get"
	noAck := p.choose("no-ack", 0, 1) == 1
	want := p.n.get(p.now, noAck)
	d, got := p.m.Get(p.now, noAck, &p.out)
	if got != want {
		p.t.Fatalf("get: %t, want %t", got, want)
	}
	if got {
		p.out.Deliveries = append(p.out.Deliveries, d)
	}
	p.compareOutput()
}

func (p *pair) subscribe() {
	p.lastOp = "subscribe"
	c := &naiveConsumer{
		id: p.nextID, credit: p.choose("credit", 0, p.burst), priority: p.choose("consumer priority", -1, 1),
		noAck: p.choose("no-ack", 0, 3) == 0, exclusive: p.choose("exclusive", 0, 7) == 0,
	}
	p.nextID++
	mc := &Consumer{Gate: &shared{id: c.id, credit: c.credit}, NoAck: c.noAck, Exclusive: c.exclusive, Priority: c.priority}
	want := p.n.subscribe(c)
	if got := p.m.Subscribe(p.now, mc); got != want {
		p.t.Fatalf("subscribe: %t, want %t", got, want)
	}
	if want {
		p.consumers[c.id] = mc
		p.n.dispatch(p.now)
		p.m.Dispatch(p.now, &p.out)
	}
	p.compareOutput()
}

func (p *pair) unsubscribeOrCredit() {
	if len(p.n.consumers) == 0 {
		return
	}
	c := p.n.consumers[p.choose("consumer", 0, len(p.n.consumers)-1)]
	mc := p.consumers[c.id]
	if p.choose("leave", 0, 1) == 0 {
		p.lastOp = "credit"
		more := p.choose("more", 1, p.burst)
		c.credit += more
		p.n.unblock(c)
		p.n.dispatch(p.now)
		mc.Gate.(*shared).credit += more
		p.m.Unblock(mc)
		p.m.Dispatch(p.now, &p.out)
	} else {
		p.lastOp = "unsubscribe"
		p.n.unsubscribe(p.now, c)
		if !p.m.Unsubscribe(p.now, mc, &p.out) || p.m.Unsubscribe(p.now, mc, &p.out) || p.m.Unblock(mc) {
			p.t.Fatalf("unsubscribe: not once")
		}
		delete(p.consumers, c.id)
	}
	p.compareOutput()
}

// pass lets time go by; sometimes the timer comes, sometimes not.
func (p *pair) pass() {
	p.lastOp = "pass"
	p.now += Time(p.choose("ms", 0, 25)) * 1e6
	if p.choose("long", 0, 3) == 0 {
		p.now += Time(p.choose("seconds", 0, 40)) * 1e9
	}
	if p.choose("late", 0, 1) == 1 {
		return
	}
	p.n.expireAll(p.now)
	p.m.Expire(p.now, &p.out)
	p.compareOutput()
	if at := p.m.NextDeadline(); at <= p.now {
		p.t.Fatalf("the next deadline is %d ago, just after Expire", p.now-at)
	}
}

func (p *pair) purgeOrRelocate() {
	if p.choose("purge", 0, 3) == 0 {
		p.lastOp = "purge"
		want := p.n.purge()
		if got := p.m.Purge(&p.out); got != want {
			p.t.Fatalf("purged %d, want %d", got, want)
		}
		p.compareOutput()
		return
	}
	p.lastOp = "relocate"
	if p.choose("whole", 0, 1) == 0 {
		if !p.m.Relocate(&p.cursor, p.relocated) {
			p.cursor = Cursor{}
		}
		return
	}
	moved := 0
	for c := (Cursor{}); p.m.Relocate(&c, func(e Entry) uint64 { moved++; return p.relocated(e) }); {
	}
	if want := len(p.inState(naiveReady)) + len(p.inState(naiveOut)) + len(p.inState(naiveParked)) + len(p.inState(naiveDelayed)); moved != want {
		p.t.Fatalf("Relocate showed %d messages, want %d", moved, want)
	}
}

func (p *pair) relocated(e Entry) uint64 {
	m := p.n.find(e.Ref)
	if m == nil || m.state == naiveMoving || m.bytes != e.BodyBytes {
		p.t.Fatalf("Relocate shows %+v, which is not there", e)
	}
	p.nextRef++
	delete(p.refs, m.ref)
	for _, r := range p.log {
		if r.ref == m.ref {
			r.ref = p.nextRef // a log has its own account of where bodies are
		}
	}
	m.ref = p.nextRef
	p.refs[m.ref] = true
	return m.ref
}

// drain acknowledges all but some, from the middle outwards.
func (p *pair) drain(left int) {
	p.lastOp = "drain"
	for len(p.inState(naiveReady)) > 0 && len(p.n.list) > left {
		p.n.get(p.now, false)
		d, ok := p.m.Get(p.now, false, &p.out)
		if !ok {
			p.t.Fatalf("nothing to get")
		}
		p.out.Deliveries = append(p.out.Deliveries, d)
		p.compareOutput()
	}
	for _, m := range p.inState(naiveMoving) {
		p.n.moved(m)
		p.m.FinishMove(m.seq, &p.out)
	}
	list := p.inState(naiveOut)
	for i := len(list) / 2; len(list) > left; i = len(list) * i % 7 / 7 {
		i = min(i, len(list)-1)
		p.settle(list[i], "ack")
		list = slices.Delete(list, i, i+1)
	}
	p.compareOutput()
}

func (p *pair) finish() {
	p.lastOp = "close"
	p.m.Close(&p.out)
	p.unshelve()
	for _, e := range p.out.Released {
		if !p.refs[e.Ref] {
			p.t.Fatalf("close: reference %d is released twice", e.Ref)
		}
		delete(p.refs, e.Ref)
	}
	if len(p.refs) > 0 {
		p.t.Fatalf("references never released: %v", p.refs)
	}
}
