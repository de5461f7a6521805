package amqpserver

import (
	"slices"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/wire"
)

// events collects the methods that a client gets, for those that come unasked.
func (c *raw) events() <-chan wire.MethodID {
	ch := make(chan wire.MethodID, 1<<16)
	go func() {
		defer close(ch)
		for {
			_, m, err := c.method()
			if err != nil {
				return
			}
			ch <- m.ID()
		}
	}()
	return ch
}

// next waits for the next event.
func next(t testing.TB, what string, events <-chan wire.MethodID) wire.MethodID {
	t.Helper()
	select {
	case id := <-events:
		return id
	case <-time.After(patience):
		t.Fatalf("nothing came, want %s", what)
	}
	return 0
}

var blockedCapability = tuning{capabilities: []string{"connection.blocked"}}

// TestFlood publishes into a queue that nobody reads, without end. At the memory
// limit the publisher is told once and held; others that do not publish are not.
// Once a consumer has made room it is told again, and goes on.
func TestFlood(t *testing.T) {
	t.Parallel()
	const limit, size = 16 << 20, 64 << 10
	r := newRig(t, Config{}, limit)
	publisher := r.open(t, tuning{heartbeatSeconds: 1, capabilities: blockedCapability.capabilities})
	idle := r.open(t, blockedCapability)
	consumer := r.open(t, blockedCapability)
	publisher.call(1, &wire.QueueDeclare{Queue: "flood"}, wire.IDQueueDeclareOk)
	publisher.call(1, &wire.ConfirmSelect{}, wire.IDConfirmSelectOk)
	events := publisher.events()
	frames := publishFrames(1, "flood", make([]byte, size))
	const messages = 600 // 37 MiB, more than the limit and all socket buffers
	sent := publisher.pipelined(slices.Concat(slices.Repeat([][]byte{frames}, messages)...))

	confirmed := 0
	for id := next(t, "connection.blocked", events); id != wire.IDConnectionBlocked; id = next(t, "connection.blocked", events) {
		if id != wire.IDBasicAck {
			t.Fatalf("%s came, want basic.ack or connection.blocked", id)
		}
		confirmed++
	}
	eventually(t, "the publisher is held", func() bool { return r.heldReaders() == 1 })
	ready := consumer.readyCount("flood")
	if held := int(ready) * size; held > limit+limit/4 || held < limit/2 {
		t.Errorf("%d KiB of messages came through at a limit of %d", held>>10, limit>>10)
	}
	// Whoever has not published since goes on as if nothing were.
	idle.call(1, &wire.QueueDeclare{Queue: "idle", Exclusive: true}, wire.IDQueueDeclareOk)
	idle.sync(1)
	// Held for longer than two heartbeat intervals, which the client cannot
	// make heard: it hears ours, and lives.
	beats := time.After(2500 * time.Millisecond)
	for waiting := true; waiting; {
		select {
		case id, open := <-events:
			if !open || id == wire.IDConnectionBlocked || id == wire.IDConnectionUnblocked {
				t.Fatalf("while held: %v (open: %v)", id, open)
			}
		case <-beats:
			waiting = false
		}
	}
	if n := consumer.readyCount("flood"); n != ready {
		t.Errorf("%d messages, then %d, from a publisher that is held", ready, n)
	}

	consumer.send(1, &wire.BasicConsume{Queue: "flood", NoAck: true})
	for got := 0; got < messages; {
		_, m, err := consumer.method()
		if err != nil {
			t.Fatal(err)
		}
		if m.ID() == wire.IDBasicDeliver {
			got++
		}
	}
	<-sent
	// Blocked and unblocked alternate, and the last word is unblocked.
	publisher.send(1, &wire.BasicQos{})
	blocked := true
	for id := next(t, "qos-ok", events); id != wire.IDBasicQosOk; id = next(t, "qos-ok", events) {
		if id == wire.IDConnectionBlocked == blocked && id != wire.IDBasicAck {
			t.Fatalf("%s, blocked before: %v", id, blocked)
		}
		if id != wire.IDBasicAck {
			blocked = !blocked
		}
	}
	if blocked {
		t.Error("never unblocked")
	}
	consumer.call(1, &wire.QueueDelete{Queue: "flood"}, wire.IDQueueDeleteOk)
	for _, c := range []*raw{publisher, idle, consumer} {
		c.Close()
	}
	eventually(t, "everybody is gone", func() bool { return r.ConnCount() == 0 })
}

// TestBlockedPublisherGone: a publisher that hangs up while it is held is
// noticed although it is not read, and its exclusive queue with all that filled
// the memory goes.
func TestBlockedPublisherGone(t *testing.T) { blockedPublisherGone(t, 1) }

// Without heartbeats too.
func TestBlockedPublisherGoneQuietly(t *testing.T) { blockedPublisherGone(t, 0) }

func blockedPublisherGone(t *testing.T, heartbeatSeconds uint16) {
	t.Parallel()
	r := newQuietRig(t, Config{}, 8<<20, 300*time.Millisecond)
	c := r.open(t, tuning{heartbeatSeconds: heartbeatSeconds, capabilities: blockedCapability.capabilities})
	c.call(1, &wire.QueueDeclare{Queue: "mine", Exclusive: true}, wire.IDQueueDeclareOk)
	events := c.events()
	sent := c.pipelined(slices.Concat(slices.Repeat([][]byte{publishFrames(1, "mine", make([]byte, 64<<10))}, 600)...))
	if id := next(t, "connection.blocked", events); id != wire.IDConnectionBlocked {
		t.Fatalf("%s came, want connection.blocked", id)
	}
	c.Close()
	<-sent
	eventually(t, "it is gone", func() bool { return r.ConnCount() == 0 })
}
