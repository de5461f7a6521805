package queue

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestScripts runs testdata/*.txt, which read as this package's specification.
//
// A script is commands, each followed by lines "= effect" that must come in
// that order: first the answer, then deliveries, dead letters, messages that
// are done, log facts (if asked for) and "unused". "#" starts a comment.
//
//	queue [durable] [facts] [autodelete] [single] [dlx] [ttl=100ms] [expires=1s]
//	      [length=3] [bytes=100] [overflow=reject|reject-dlx] [priorities=10]
//	      [limit=2] [arrive] [retry=10ms,25ms]
//	                         arrive: a dead letter stays until every target has it;
//	                         retry: what failed is delayed, at least and at most
//	                         starts a new queue; facts lists what a log gets
//	publish NAME… [persistent] [ttl=100ms] [bytes=1] [priority=3]
//	consume NAME [credit=N] [noack] [exclusive] [priority=N]; cancel NAME
//	credit NAME N            gives a consumer that much more credit
//	ack, requeue, fail, reject NAME…   as a consumer does it; its credit comes back
//	putback NAME…            a delivery that the host could not carry out
//	moved NAME…              a dead letter has reached its targets
//	park NAME…               it has not reached all of them
//	get [noack]; purge; touch; close; counts; count NAME
//	advance 50ms             lets time pass; the timers call when the queue asks
//	late 50ms                lets time pass and the timers oversleep
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			runScript(t, path, strings.Split(string(data), "\n"))
		})
	}
}

func runScript(t *testing.T, path string, lines []string) {
	var s *stage
	cmd, cmdLine := "", 0
	var want, got []string
	check := func() {
		if !slices.Equal(want, got) {
			t.Errorf("%s:%d: %s\n got: %s\nwant: %s", path, cmdLine, cmd, strings.Join(got, " | "), strings.Join(want, " | "))
		}
		want, got = nil, nil
	}
	for i, line := range lines {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '=':
			want = append(want, strings.TrimSpace(line[1:]))
		default:
			check()
			cmd, cmdLine = line, i+1
			words := strings.Fields(line)
			if words[0] == "queue" {
				s = newStage(t, words[1:])
				continue
			}
			s.lines = nil
			s.run(words[0], words[1:])
			got = s.lines
		}
	}
	check()
}

// counter is a gate as simple as can be: that much credit is left.
type counter struct {
	name  string
	left  int // negative: no limit
	asked int
}

func (c *counter) Take(int) bool {
	c.asked++
	if c.left == 0 {
		return false
	}
	c.left--
	return true
}

// stage is the host of a queue in a script.
type stage struct {
	t         *testing.T
	m         *Machine
	now       Time
	out       Output
	facts     bool
	consumers map[string]*Consumer
	refs      map[string]uint64 // by message name
	names     map[uint64]string // by reference; deleted when it is released
	seqs      map[string]Seq
	seqNames  map[Seq]string
	takers    map[string]*Consumer // who has the message
	lines     []string
}

func newStage(t *testing.T, opts []string) *stage {
	cfg := NoLimits()
	s := &stage{
		t: t, now: 1e18, consumers: map[string]*Consumer{}, refs: map[string]uint64{}, names: map[uint64]string{},
		seqs: map[string]Seq{}, seqNames: map[Seq]string{}, takers: map[string]*Consumer{},
	}
	for _, o := range opts {
		key, val, _ := strings.Cut(o, "=")
		switch key {
		case "durable":
			cfg.Durable = true
		case "facts":
			s.facts = true
		case "autodelete":
			cfg.AutoDelete = true
		case "single":
			cfg.SingleActive = true
		case "dlx":
			cfg.HasDLX = true
		case "retry":
			least, most, _ := strings.Cut(val, ",")
			cfg.Retry = RetryDelay{Failed: true, MinMs: s.span(least).Milliseconds(), MaxMs: s.span(most).Milliseconds()}
		case "arrive":
			cfg.AtLeastOnce = true
		case "ttl":
			cfg.MessageTTLMs = s.span(val).Milliseconds()
		case "expires":
			cfg.ExpiresMs = s.span(val).Milliseconds()
		case "length":
			cfg.MaxLength = int64(s.number(val))
		case "bytes":
			cfg.MaxLengthBytes = int64(s.number(val))
		case "overflow":
			cfg.Overflow = map[string]Overflow{"reject": RejectPublish, "reject-dlx": RejectPublishDLX}[val]
		case "limit":
			cfg.DeliveryLimit = int64(s.number(val))
		case "priorities":
			cfg.MaxPriority = s.number(val)
		default:
			t.Fatalf("unknown queue option %q", o)
		}
	}
	s.m = New(cfg, s.now)
	return s
}

func (s *stage) number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *stage) span(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *stage) say(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func (s *stage) run(cmd string, words []string) {
	var names []string
	opts := map[string]string{}
	for _, w := range words {
		key, val, ok := strings.Cut(w, "=")
		if ok || slices.Contains([]string{"persistent", "noack", "exclusive"}, w) {
			opts[key] = val
		} else {
			names = append(names, w)
		}
	}
	switch cmd {
	case "publish":
		for _, name := range names {
			s.publish(name, opts)
		}
	case "consume":
		s.consume(names[0], opts)
	case "ack", "requeue", "fail", "reject", "putback", "moved", "park":
		s.settle(cmd, names)
	case "advance":
		s.advance(s.now + Time(s.span(names[0])))
	case "late":
		s.now += Time(s.span(names[0]))
	default:
		s.runOther(cmd, names, opts)
	}
	s.flush()
}

func (s *stage) runOther(cmd string, names []string, opts map[string]string) {
	switch cmd {
	case "cancel":
		if !s.m.Unsubscribe(s.now, s.consumers[names[0]], &s.out) {
			s.say("not there")
		}
	case "credit":
		c := s.consumers[names[0]]
		c.Gate.(*counter).left += s.number(names[1])
		s.m.Unblock(c)
		s.m.Dispatch(s.now, &s.out)
	case "get":
		_, noAck := opts["noack"]
		if d, ok := s.m.Get(s.now, noAck, &s.out); ok {
			s.delivered("get", d)
		} else {
			s.say("get nothing")
		}
	case "purge":
		s.say("purged %d", s.m.Purge(&s.out))
	case "close":
		s.say("closed with %d ready", s.m.Close(&s.out))
	case "touch":
		s.m.Touch(s.now)
	case "count":
		s.say("%s", tries(s.m.Tries(s.seqs[names[0]])))
	case "counts":
		s.say("ready %d (%d bytes), out %d, moving %d, consumers %d%s",
			s.m.ReadyCount(), s.m.ReadyBytes(), s.m.UnackedCount(), s.m.MovingCount(), s.m.ConsumerCount(), s.parked())
	default:
		s.t.Fatalf("unknown command %q", cmd)
	}
}

func (s *stage) publish(name string, opts map[string]string) {
	msg := Message{TTLMillis: -1}
	msg.BodyBytes = 1
	if _, ok := opts["persistent"]; ok {
		msg.Flags |= Persistent
	}
	for key, val := range opts {
		switch key {
		case "ttl":
			msg.TTLMillis = s.span(val).Milliseconds()
		case "bytes":
			msg.BodyBytes = uint32(s.number(val))
		case "priority":
			msg.Priority = uint8(s.number(val))
		}
	}
	if s.refs[name] != 0 {
		s.t.Fatalf("a second message %q", name)
	}
	msg.Ref = uint64(len(s.refs) + 1)
	s.refs[name], s.names[msg.Ref] = msg.Ref, name
	switch s.m.Enqueue(s.now, msg, &s.out) {
	case Refused:
		s.say("%s is refused", name)
		delete(s.names, msg.Ref)
	case RefusedToDLX:
		s.say("%s is refused and dies: maxlen", name)
		delete(s.names, msg.Ref)
	}
	s.flush()
}

func (s *stage) consume(name string, opts map[string]string) {
	g := &counter{name: name, left: -1}
	c := &Consumer{Gate: g}
	for key, val := range opts {
		switch key {
		case "credit":
			g.left = s.number(val)
		case "noack":
			c.NoAck = true
		case "exclusive":
			c.Exclusive = true
		case "priority":
			c.Priority = s.number(val)
		}
	}
	if !s.m.Subscribe(s.now, c) {
		s.say("in exclusive use")
		return
	}
	s.consumers[name] = c
	s.m.Dispatch(s.now, &s.out)
}

// settle does what a channel does for each of the messages, then once what it
// does at the end.
func (s *stage) settle(cmd string, names []string) {
	for _, name := range names {
		seq, ok := s.seqs[name]
		if !ok {
			s.t.Fatalf("message %q has never been seen", name)
		}
		switch cmd {
		case "ack":
			ok = s.m.Settle(seq, &s.out)
		case "requeue":
			ok = s.m.Return(seq, GivenBack, &s.out)
		case "fail":
			ok = s.m.Return(seq, Failed, &s.out)
		case "putback":
			ok = s.m.Return(seq, Undelivered, &s.out)
		case "reject":
			ok = s.m.Reject(seq, &s.out)
		case "moved":
			ok = s.m.FinishMove(seq, &s.out)
		case "park":
			ok = s.m.Park(s.now, seq)
		}
		if !ok {
			s.say("%s is not out", name)
		} else if c := s.takers[name]; c != nil && cmd != "moved" && cmd != "park" {
			delete(s.takers, name)
			if g := c.Gate.(*counter); g.left >= 0 {
				g.left++
			}
			s.m.Unblock(c)
		}
	}
	if cmd != "moved" && cmd != "park" {
		s.m.Requeued(s.now, &s.out)
	}
}

// advance lets time pass as a host with timers does.
func (s *stage) advance(to Time) {
	idle := false
	for calls := 0; ; calls++ {
		at := s.m.NextDeadline()
		if at > to || idle {
			break
		}
		if calls > 100 || !s.m.Timed() {
			s.t.Fatalf("a timer that does not lead on: %d", at-s.now)
		}
		s.now = max(at, s.now)
		s.m.Expire(s.now, &s.out)
		s.flush()
		if idle = s.m.Idle(s.now); idle {
			s.say("idle")
		}
	}
	s.now = to
}

func (s *stage) delivered(who string, d Delivery) {
	name := s.names[d.Entry.Ref]
	s.seqs[name], s.seqNames[d.Seq] = d.Seq, name
	text := who + " " + name
	if d.Entry.Flags&Redelivered != 0 {
		text += " again"
	}
	if d.Done {
		text += ", done"
		s.release(d.Entry)
	}
	s.takers[name] = d.Consumer
	s.say("%s", text)
}

func (s *stage) release(e Entry) string {
	name, ok := s.names[e.Ref]
	if !ok {
		s.t.Errorf("reference %d is released twice", e.Ref)
	}
	delete(s.names, e.Ref)
	return name
}

// flush says what is in the Output, and resets it.
func (s *stage) flush() {
	for _, f := range s.out.Facts {
		if f.Kind == Enqueued {
			s.seqNames[f.Seq] = s.names[f.Entry.Ref]
		}
	}
	for _, d := range s.out.Deliveries {
		s.delivered(d.Consumer.Gate.(*counter).name+" gets", d)
	}
	for _, d := range s.out.Dead {
		name := s.names[d.Entry.Ref]
		s.seqs[name], s.seqNames[d.Seq] = d.Seq, name
		s.say("%s dies: %s", name, d.Reason)
	}
	for _, e := range s.out.Released {
		s.say("%s is done", s.release(e))
	}
	if s.facts {
		for _, f := range s.out.Facts {
			for _, one := range singles(f) {
				s.sayFact(one)
			}
		}
	}
	if s.out.Unused {
		s.say("unused")
	}
	s.out.Reset()
}

func (s *stage) parked() string {
	if n := s.m.ParkedCount(); n > 0 {
		return fmt.Sprintf(", parked %d", n)
	}
	if n := s.m.DelayedCount(); n > 0 {
		return fmt.Sprintf(", delayed %d (%d bytes)", n, s.m.DelayedBytes())
	}
	return ""
}

func tries(t Tries) string {
	if t.Failed > 0 {
		return fmt.Sprintf("count %d, failed %d", t.Returned, t.Failed)
	}
	return fmt.Sprintf("count %d", t.Returned)
}

func (s *stage) sayFact(f Fact) {
	name := s.seqNames[f.Seq]
	switch f.Kind {
	case Enqueued:
		s.say("log enqueued %s", name)
	case Delivered:
		s.say("log delivered %s", name)
	case Returned:
		s.say("log returned %s, %s", name, tries(f.Tries))
	case Died:
		s.say("log died %s, %s", name, f.Reason)
	case Settled:
		s.say("log settled %s", name)
	}
}
