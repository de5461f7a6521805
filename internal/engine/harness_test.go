package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/wire"
)

// handClock is a clock that a test moves.
type handClock struct {
	mu     sync.Mutex
	at     time.Time
	timers map[int]handTimer
	last   int
}

type handTimer struct {
	at time.Time
	f  func()
}

func newHandClock() *handClock {
	return &handClock{at: time.Unix(1_000_000, 0), timers: map[int]handTimer{}}
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *handClock) AfterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	id := c.last
	c.timers[id] = handTimer{c.at.Add(d), f}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, there := c.timers[id]
		delete(c.timers, id)
		return there
	}
}

// advance moves the clock and calls what is due.
func (c *handClock) advance(d time.Duration) {
	c.mu.Lock()
	c.at = c.at.Add(d)
	for again := true; again; {
		again = false
		for id, t := range c.timers {
			if !t.at.After(c.at) {
				delete(c.timers, id)
				c.mu.Unlock()
				t.f()
				c.mu.Lock()
				again = true
				break
			}
		}
	}
	c.mu.Unlock()
}

// publishing is what a test publishes.
type publishing struct {
	exchange, key string
	id            uint64 // first eight bytes of the body
	bodyBytes     int    // at least 8
	persistent    bool
	mandatory     bool
	priority      uint8
	expiration    string
}

func (p publishing) record() message.Record {
	props := wire.Properties{Flags: wire.FlagDeliveryMode | wire.FlagPriority, DeliveryMode: 1, Priority: p.priority}
	if p.persistent {
		props.DeliveryMode = 2
	}
	if p.expiration != "" {
		props.Flags |= wire.FlagExpiration
		props.Expiration = p.expiration
	}
	body := make([]byte, max(p.bodyBytes, 8))
	binary.BigEndian.PutUint64(body, p.id)
	return message.Build(nil, p.exchange, p.key, props.AppendTo(nil), body, 131072)
}

// send publishes as the connection's reader does, without the flush.
func send(ch *Channel, p publishing) *wire.Error {
	return publishRecord(ch, p.record(), p.mandatory)
}

// received is a frame sequence that a client has seen: a method, and the
// content that came with it.
type received struct {
	channel uint16
	method  wire.Method
	id      uint64 // from the body, for methods with content
}

// parse cuts what an outbox gave out into methods with their content.
func parse(b []byte) (list []received, err error) {
	for len(b) > 0 {
		f, n, err := wire.ParseFrame(b, 0)
		if err != nil || n == 0 {
			return list, fmt.Errorf("output is not whole frames: %v", err)
		}
		b = b[n:]
		switch f.Type {
		case wire.FrameMethod:
			m, err := wire.DecodeMethod(f.Payload)
			if err != nil {
				return list, err
			}
			list = append(list, received{channel: f.Channel, method: m})
		case wire.FrameBody:
			if r := &list[len(list)-1]; r.id == 0 {
				if r.channel != f.Channel {
					return list, fmt.Errorf("content of channel %d inside that of channel %d", f.Channel, r.channel)
				}
				r.id = binary.BigEndian.Uint64(f.Payload)
			}
		}
	}
	return list, nil
}

// drain takes everything a connection has to send, as its writer does, until
// nothing comes any more.
func drain(t testing.TB, c *Conn) (list []received) {
	t.Helper()
	for {
		some, any := drainOnce(t, c)
		if !any {
			return list
		}
		list = append(list, some...)
	}
}

// turn is one turn of a connection's writer: what it writes, bodies from blobs
// included. If such a one cannot be read the connection is gone, and ok is false.
func turn(o *Outbox) (b []byte, done func() (refill bool), ok bool) {
	gathered, body, ok := o.Next()
	if !ok {
		return nil, nil, false
	}
	b = gathered
	if body != nil {
		w := bytes.NewBuffer(slices.Clone(gathered))
		if _, err := body.WriteTo(w); err != nil {
			body.Release()
			o.Close()
			return nil, nil, false
		}
		b = w.Bytes()
	}
	return b, func() bool { return o.Done(gathered, body) }, true
}

// publishRecord publishes as the connection's reader does, without the flush: a
// large body goes to a blob, some of it at a time.
func publishRecord(ch *Channel, rec message.Record, mandatory bool) *wire.Error {
	props, err := wire.ScanProps(rec.Props())
	if err != nil {
		panic(err)
	}
	if ch.BeginUpload(rec.BodyBytes(), &props) {
		body := rec.AppendBody(nil)
		rec = rec[:len(rec)-framedBytes(rec)]
		for len(body) > 0 {
			n := min(len(body), 1+len(body)*2/3)
			ch.Upload(body[:n])
			body = body[n:]
		}
		if props, err = wire.ScanProps(rec.Props()); err != nil {
			panic(err)
		}
	}
	return ch.Publish(rec, &props, mandatory)
}

// framedBytes is what the body frames of a record take.
func framedBytes(rec message.Record) int {
	n := 0
	for b := []byte(rec); len(b) > 0; {
		f, size, err := wire.ParseFrame(b, 0)
		if err != nil || size == 0 {
			panic("a record is not whole frames")
		}
		if f.Type == wire.FrameBody {
			n += size
		}
		b = b[size:]
	}
	return n
}

// drainOnce is one turn of the writer. any is false if there was nothing.
func drainOnce(t testing.TB, c *Conn) (list []received, any bool) {
	t.Helper()
	c.Out.mu.Lock()
	empty := len(c.Out.buf) == 0 || c.Out.closed
	c.Out.mu.Unlock()
	if empty {
		return nil, false
	}
	b, done, ok := turn(c.Out)
	if !ok {
		return nil, false
	}
	list, err := parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if done() {
		c.Refill()
	}
	return list, true
}

// open connects and opens channel 1.
func open(t testing.TB, e *Engine) (*Conn, *Channel) {
	t.Helper()
	c, err := e.Open("/", ConnInfo{User: "guest", FrameMax: 131072, CancelNotify: true})
	if err != nil {
		t.Fatal(err)
	}
	return c, c.OpenChannel(1)
}

func declare(t testing.TB, ch *Channel, m *wire.QueueDeclare) {
	t.Helper()
	if _, err := ch.DeclareQueue(m); err != nil {
		t.Fatal(err)
	}
}

func consume(t testing.TB, ch *Channel, r Consume) {
	t.Helper()
	if err := ch.Consume(r); err != nil {
		t.Fatal(err)
	}
}

func must(t testing.TB, err *wire.Error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newTestEngine(t testing.TB, c Config) *Engine {
	c.VHosts = []string{"/"}
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// countOf counts received methods of one kind.
func countOf[M wire.Method](list []received) (n int) {
	for _, r := range list {
		if _, ok := r.method.(M); ok {
			n++
		}
	}
	return n
}
