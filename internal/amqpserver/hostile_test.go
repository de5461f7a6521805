package amqpserver

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/wire"
)

// pipelined writes without reading, until the server does not take any more, all
// is sent, or the connection ends. It returns at once; done is closed then.
func (c *raw) pipelined(b []byte) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		c.Write(b)
	}()
	return done
}

// sync waits until the server has handled everything sent so far.
func (c *raw) sync(channel uint16) {
	c.t.Helper()
	c.call(channel, &wire.BasicQos{}, wire.IDBasicQosOk)
}

// readyCount asks for the number of messages in a queue.
func (c *raw) readyCount(queue string) uint32 {
	c.t.Helper()
	m := c.call(1, &wire.QueueDeclare{Queue: queue, Passive: true}, wire.IDQueueDeclareOk)
	return m.(*wire.QueueDeclareOk).MessageCount
}

// getOne takes a message from a queue; false if it is empty.
func (c *raw) getOne(queue string) bool {
	c.t.Helper()
	c.send(1, &wire.BasicGet{Queue: queue, NoAck: true})
	_, m, err := c.method()
	if err != nil {
		c.t.Fatal(err)
	}
	return m.ID() == wire.IDBasicGetOk
}

// TestSlowLoris: clients that connect and stop, at any point of the handshake,
// are cut after the handshake timeout. Others log in meanwhile.
func TestSlowLoris(t *testing.T) {
	const timeout = 500 * time.Millisecond
	r := newRig(t, Config{HandshakeTimeout: timeout}, 0)
	beginning := slices.Concat([]byte(wire.ProtocolHeader),
		onChannel(0, &wire.ConnectionStartOk{Mechanism: "PLAIN", Response: "\x00guest\x00guest", Locale: "en_US"}),
		onChannel(0, &wire.ConnectionTuneOk{ChannelMax: 1, FrameMax: 131072}))
	underAttack(t, r, func(t *testing.T) {
		const n = 500
		began := time.Now()
		clients := make([]*raw, n)
		for i := range clients {
			clients[i] = r.connect(t)
			clients[i].write(beginning[:i%len(beginning)])
		}
		if time.Since(began) < timeout { // or else the machine is too slow to see them together
			eventually(t, "all are connected", func() bool { return r.ConnCount() > n/2 })
		}
		r.open(t, tuning{}).sync(1)
		for _, c := range clients {
			c.wantEOF()
		}
		if took := time.Since(began); took < timeout {
			t.Errorf("cut after %s, before the handshake timeout of %s", took, timeout)
		}
	})
}

// TestBeatsDoNotExtendTheHandshake: a client that is busy, but not with logging
// in, is cut as well.
func TestBeatsDoNotExtendTheHandshake(t *testing.T) {
	r := newRig(t, Config{HandshakeTimeout: 200 * time.Millisecond}, 0)
	c := r.connect(t)
	c.write([]byte(wire.ProtocolHeader))
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := c.Write(wire.AppendHeartbeat(nil)); err != nil {
				return
			}
			<-tick.C
		}
	}()
	c.wantEOF()
}

func TestEmptyFramesByTheMillion(t *testing.T) {
	r := newRig(t, Config{}, 0)
	underAttack(t, r, func(t *testing.T) {
		c := r.open(t, tuning{})
		c.call(1, &wire.QueueDeclare{Queue: "empty", Exclusive: true}, wire.IDQueueDeclareOk)
		c.write(slices.Concat(publish, header(60, 0, 2), body(1)))
		many := bytes.Repeat(body(0), 10_000)
		for range 100 {
			c.write(many)
		}
		c.write(body(1))
		c.write(bytes.Repeat(wire.AppendHeartbeat(nil), 100_000))
		c.sync(1)
	})
}

// TestCrumbs sends a large body one byte at a time. It must arrive whole, and
// must not be stored with eight bytes of framing for each of its own.
func TestCrumbs(t *testing.T) {
	const size = 1 << 20
	r := newRig(t, Config{}, 0)
	underAttack(t, r, func(t *testing.T) {
		c := r.open(t, tuning{})
		c.call(1, &wire.QueueDeclare{Queue: "crumbs", Exclusive: true}, wire.IDQueueDeclareOk)
		before := liveHeapBytes()
		c.write(slices.Concat(onChannel(1, &wire.BasicPublish{RoutingKey: "crumbs"}), header(60, 0, size)))
		want := make([]byte, size)
		var frames []byte
		for i := range want {
			want[i] = byte(i * 7)
			frames = append(frames, wire.FrameBody, 0, 1, 0, 0, 0, 1, want[i], wire.FrameEnd)
		}
		c.write(frames)
		c.sync(1)
		frames = nil
		if grown := liveHeapBytes() - before; grown > 5*size {
			t.Errorf("%d bytes of body take %d bytes of memory", size, grown)
		}
		c.send(1, &wire.BasicGet{Queue: "crumbs", NoAck: true})
		var got []byte
		for len(got) < size {
			f, err := c.frame()
			if err != nil {
				t.Fatal(err)
			}
			if f.Type == wire.FrameBody {
				got = append(got, f.Payload...)
			}
		}
		if !bytes.Equal(got, want) {
			t.Error("the body has changed")
		}
	})
}

// TestGoneInTheMiddle: clients that hang up or close the channel at every point
// of a publish leave nothing behind, and their message is not published.
func TestGoneInTheMiddle(t *testing.T) {
	r := newRig(t, Config{}, 0)
	frames := publishFrames(1, "middle", make([]byte, 300))
	underAttack(t, r, func(t *testing.T) {
		other := r.open(t, tuning{})
		other.call(1, &wire.QueueDeclare{Queue: "middle", Exclusive: false, AutoDelete: true}, wire.IDQueueDeclareOk)
		for n := 0; n < len(frames); n += 7 {
			c := r.open(t, tuning{})
			c.write(frames[:n])
			c.Close()
		}
		big := r.open(t, tuning{})
		big.write(slices.Concat(publish, header(60, 0, 8<<20), body(100_000), body(100_000)))
		big.Close()
		eventually(t, "they are gone", func() bool { return r.ConnCount() == 2 })
		if n := other.readyCount("middle"); n != 0 {
			t.Errorf("%d messages of which a part was missing", n)
		}
		other.call(1, &wire.QueueDelete{Queue: "middle"}, wire.IDQueueDeleteOk)
	})
}

// TestAllChannels publishes on as many channels as there may be, in pieces.
func TestAllChannels(t *testing.T) {
	r := newRig(t, Config{}, 0)
	underAttack(t, r, func(t *testing.T) {
		c := r.login(t, tuning{})
		var open []byte
		for id := range uint16(2047) {
			open = append(open, onChannel(id+1, &wire.ChannelOpen{})...)
		}
		c.write(open)
		for range 2047 {
			c.await(wire.IDChannelOpenOk)
		}
		for id := range uint16(2047) {
			frames := publishFrames(id+1, "nowhere", make([]byte, 20_000))
			c.write(frames[:len(frames)-1-int(id)%10_000])
			c.write(frames[len(frames)-1-int(id)%10_000:])
		}
		c.sync(2047)
		c.send(2048, &wire.ChannelOpen{})
		c.wantClosed(wire.NotAllowed)
	})
}

// TestConnectAndGo connects and disconnects by the thousand, some politely.
func TestConnectAndGo(t *testing.T) {
	r := newRig(t, Config{}, 0)
	underAttack(t, r, func(t *testing.T) {
		const perWorker = 600
		var workers sync.WaitGroup
		for worker := range 4 {
			workers.Go(func() {
				for i := range perWorker {
					if worker == 0 {
						nc, err := net.Dial("tcp", r.addr)
						if err != nil {
							t.Error(err)
							return
						}
						nc.Close()
						continue
					}
					c := r.open(t, tuning{})
					if i%2 == 0 {
						c.call(0, &wire.ConnectionClose{ReplyCode: 200}, wire.IDConnectionCloseOk)
					} else {
						c.write(publish)
					}
					c.Close()
				}
			})
		}
		workers.Wait()
	})
}

// TestDeafConsumer consumes a long queue and never reads: what it does not take
// stays in the queue, for others.
func TestDeafConsumer(t *testing.T) {
	const messages, size = 1500, 32 << 10
	r := newRig(t, Config{}, 0)
	underAttack(t, r, func(t *testing.T) {
		other := r.open(t, tuning{})
		other.call(1, &wire.QueueDeclare{Queue: "long", AutoDelete: true}, wire.IDQueueDeclareOk)
		frames := publishFrames(1, "long", make([]byte, size))
		for range messages {
			other.write(frames)
		}
		other.sync(1)
		before := liveHeapBytes()
		deaf := r.open(t, tuning{})
		deaf.Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
		deaf.send(1, &wire.BasicConsume{Queue: "long", NoAck: true})
		eventually(t, "its socket is full", func() bool { return r.stalledWrites() == 1 })
		if grown := liveHeapBytes() - before; grown > 4<<20 {
			t.Errorf("%d KiB gathered for a client that does not read", grown>>10)
		}
		// Somebody else gets the rest.
		got := 0
		for other.getOne("long") {
			got++
		}
		if got < messages/2 || got == messages {
			t.Errorf("%d of %d messages were left for others", got, messages)
		}
		deaf.Close()
	})
}

// stalledWrites counts the connections whose writer has been in one write since
// a moment ago.
func (s *Server) stalledWrites() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		before := c.writeSeq.Load()
		if before%2 == 0 {
			continue
		}
		for range 1000 {
			runtime.Gosched()
		}
		if c.writeSeq.Load() == before {
			n++
		}
	}
	return n
}

// TestDeafAsker asks and asks and never reads the answers. The server stops
// listening to it once its answers take the hard cap.
func TestDeafAsker(t *testing.T) {
	questions := map[string][]byte{
		"declare": onChannel(1, &wire.QueueDeclare{Queue: "asked", Exclusive: true}),
		"get":     onChannel(1, &wire.BasicGet{Queue: "asked", NoAck: false}),
		"get and return": slices.Concat(onChannel(1, &wire.BasicGet{Queue: "asked", NoAck: false}),
			onChannel(1, &wire.BasicNack{Multiple: true, Requeue: true})),
		"mandatory": slices.Concat(onChannel(1, &wire.BasicPublish{RoutingKey: "nowhere", Mandatory: true}), header(60, 0, 10_000), body(10_000)),
	}
	for name, question := range questions {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Config{}, 0)
			underAttack(t, r, func(t *testing.T) {
				c := r.open(t, tuning{})
				c.call(1, &wire.QueueDeclare{Queue: "asked", Exclusive: true}, wire.IDQueueDeclareOk)
				message := publishFrames(1, "asked", make([]byte, 1<<20))
				for range 20 {
					c.write(message)
				}
				c.sync(1)
				before := liveHeapBytes()
				c.Conn.(*net.TCPConn).SetReadBuffer(64 << 10) // little is needed to fill it
				sent := c.pipelined(bytes.Repeat(question, 50<<20/len(question)))
				eventually(t, "the server does not listen any more", func() bool { return r.heldReaders() == 1 })
				if grown := liveHeapBytes() - before - 50<<20; grown > 12<<20 {
					t.Errorf("%d KiB of answers for a client that does not read", grown>>10)
				}
				c.Close()
				<-sent
			})
		})
	}
}

// heldReaders counts the connections that are not read because of their output.
func (s *Server) heldReaders() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.ready.Load() && c.eng.ReaderHeld() {
			n++
		}
	}
	return n
}

// TestGarbage sends random frames, more or less well-formed, from a fixed seed.
// Nothing is expected of the server but to stand.
func TestGarbage(t *testing.T) {
	r := newRig(t, Config{MaxMessageBytes: 50_000}, 0)
	defer func() { // nothing of all that is held once the queues are gone
		c := r.open(t, tuning{})
		for i := range garbageNames {
			c.call(1, &wire.QueueDelete{Queue: fmt.Sprint("g", i)}, wire.IDQueueDeleteOk)
		}
		if bodies, channels := r.engine.Stored(); bodies != 0 || channels != 0 {
			t.Errorf("%d references to message bodies and %d channels are still held", bodies, channels)
		}
	}()
	underAttack(t, r, func(t *testing.T) {
		for seed := range uint64(300) {
			g := garbage{rand.New(rand.NewPCG(seed, 1))}
			c := r.open(t, tuning{frameMax: 4096})
			done := c.pipelined(g.frames(200))
			select {
			case <-done:
			case <-time.After(patience):
				t.Fatalf("seed %d: the server does not read", seed)
			}
			c.Close()
		}
	})
}

// garbage makes random frames that are right often enough to get somewhere.
type garbage struct{ *rand.Rand }

// frames is a stream of so many frames.
func (g garbage) frames(n int) (b []byte) {
	for range n {
		channel := uint16(1)
		if g.IntN(40) == 0 {
			channel = uint16(g.IntN(3))
		}
		var f []byte
		switch g.IntN(8) {
		case 0:
			f = publishFrames(channel, g.anyName(), make([]byte, g.IntN(9000)))
		case 1:
			f = rawFrame(wire.FrameHeader, channel, append([]byte{0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(g.IntN(200))}, g.bytes(20)...))
		case 2:
			f = rawFrame(uint8(g.IntN(10)), channel, g.bytes(30))
		default:
			f = wire.AppendMethodFrame(nil, channel, g.method())
		}
		if g.IntN(60) == 0 {
			f[g.IntN(len(f))] ^= 1 << g.IntN(8)
		}
		b = append(b, f...)
	}
	return b
}

func (g garbage) bytes(max int) []byte {
	b := make([]byte, g.IntN(max))
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

// garbageNames is how many names queues and exchanges may have. So few let them
// meet.
const garbageNames = 4

func (g garbage) name() string { return fmt.Sprint("g", g.IntN(garbageNames)) }

// anyName is a name where nothing is made of that name.
func (g garbage) anyName() string {
	if g.IntN(20) == 0 {
		return string(g.bytes(250))
	}
	return g.name()
}

// consumed is what may be consumed: a queue, or direct replies.
func (g garbage) consumed() string {
	if g.IntN(4) == 0 {
		return "amq.rabbitmq.reply-to"
	}
	return g.name()
}

func (g garbage) flag() bool { return g.IntN(3) == 0 }

func (g garbage) table() wire.Table {
	keys := []string{"x-max-length", "x-message-ttl", "x-expires", "x-max-priority", "x-dead-letter-exchange",
		"x-dead-letter-routing-key", "x-overflow", "x-queue-type", "x-match", "alternate-exchange", "CC", "BCC", "a"}
	values := []any{int32(g.IntN(20)), int64(-1), "reject-publish", "drop-head", "classic", "all", g.name(), true, nil,
		wire.Table{{Key: "a", Value: int8(1)}}, wire.Array{g.name(), int16(3)}}
	var t wire.Table
	for range g.IntN(3) {
		t = append(t, wire.Field{Key: keys[g.IntN(len(keys))], Value: values[g.IntN(len(values))]})
	}
	return t
}

func (g garbage) method() wire.Method {
	kinds := []string{"direct", "fanout", "topic", "headers"}
	switch g.IntN(22) {
	case 0:
		return &wire.QueueDeclare{Queue: g.name(), Durable: g.flag(), Exclusive: g.flag(), AutoDelete: true, NoWait: g.flag(), Arguments: g.table()}
	case 1:
		return &wire.QueueBind{Queue: g.anyName(), Exchange: g.anyName(), RoutingKey: g.anyName(), NoWait: g.flag(), Arguments: g.table()}
	case 2:
		return &wire.ExchangeDeclare{Exchange: g.name(), Type: kinds[g.IntN(4)], AutoDelete: true, Arguments: g.table()}
	case 3:
		return &wire.ExchangeBind{Destination: g.anyName(), Source: g.anyName(), RoutingKey: g.anyName(), Arguments: g.table()}
	case 4:
		return &wire.BasicConsume{Queue: g.consumed(), ConsumerTag: g.name(), NoAck: g.flag(), Exclusive: g.flag(), Arguments: g.table()}
	case 5:
		return &wire.BasicCancel{ConsumerTag: g.anyName(), NoWait: g.flag()}
	case 6, 7:
		return &wire.BasicGet{Queue: g.name(), NoAck: g.flag()}
	case 8, 9:
		return &wire.BasicAck{DeliveryTag: uint64(g.IntN(5)), Multiple: g.flag()}
	case 10:
		return &wire.BasicNack{DeliveryTag: uint64(g.IntN(5)), Multiple: g.flag(), Requeue: g.flag()}
	case 11:
		return &wire.BasicReject{DeliveryTag: uint64(g.IntN(5)), Requeue: g.flag()}
	case 12:
		return &wire.BasicRecover{Requeue: true}
	case 13:
		return &wire.BasicQos{PrefetchCount: uint16(g.IntN(4)), Global: g.flag()}
	case 14:
		return &wire.QueuePurge{Queue: g.anyName(), NoWait: g.flag()}
	case 15:
		return &wire.QueueDelete{Queue: g.name(), IfUnused: g.flag(), IfEmpty: g.flag()}
	case 16:
		return &wire.ExchangeDelete{Exchange: g.name(), IfUnused: g.flag()}
	case 17:
		return &wire.ConfirmSelect{NoWait: g.flag()}
	case 18:
		return []wire.Method{&wire.TxSelect{}, &wire.TxCommit{}, &wire.TxRollback{}}[g.IntN(3)]
	case 19:
		return []wire.Method{&wire.ChannelClose{}, &wire.ChannelCloseOk{}}[g.IntN(2)]
	case 20:
		return &wire.ChannelFlow{Active: true}
	}
	return &wire.ChannelOpen{}
}

// TestHalvesOfBodies has connections send most of a large message each and then
// nothing more: the one that goes beyond what all may hold is closed, the others go
// on, and what a connection held is free once it is gone.
func TestHalvesOfBodies(t *testing.T) {
	const bodyBytes = 1 << 20
	r := newRig(t, Config{MaxMessageBytes: bodyBytes}, 4<<20)
	whole := publishFrames(1, "halves", make([]byte, bodyBytes))
	last := 0 // frame
	for at := 0; at < len(whole); {
		_, n, err := wire.ParseFrame(whole[at:], 0)
		if err != nil {
			t.Fatal(err)
		}
		last, at = at, at+n
	}
	// half sends it and reports how the server takes it.
	half := func(c *raw) wire.Method {
		c.write(whole[:last])
		c.send(2, &wire.ChannelOpen{})
		_, m, err := c.method()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	var held []*raw
	for {
		c := r.open(t, tuning{})
		if len(held) == 0 {
			c.call(1, &wire.QueueDeclare{Queue: "halves"}, wire.IDQueueDeclareOk)
		}
		m := half(c)
		if m, closed := m.(*wire.ConnectionClose); closed {
			if m.ReplyCode != wire.ResourceError {
				t.Errorf("closed with %d %s", m.ReplyCode, m.ReplyText)
			}
			break
		}
		if held = append(held, c); len(held) > comingMessages+1 {
			t.Fatalf("%d connections hold most of a message each", len(held))
		}
	}
	if len(held) < comingMessages/2 {
		t.Errorf("closed after %d connections with most of a message each", len(held))
	}
	held[0].write(whole[last:])
	eventually(t, "the message of another connection arrives", func() bool {
		return r.open(t, tuning{}).readyCount("halves") == 1
	})
	eventually(t, "there is room again", func() bool {
		_, closed := half(r.open(t, tuning{})).(*wire.ConnectionClose)
		return !closed
	})
}
