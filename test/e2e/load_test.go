package e2e

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/internal/loadgen"
	"github.com/warrenmq/warren/internal/wire"
)

const (
	ttlMillis = 100 // of the queue ttl
	moveBatch = 20  // messages that the mover moves in one transaction
)

// mixedStreams are confirms, fan-out, large bodies, expiry, rejects,
// transactions and transient messages.
func mixedStreams() []*stream {
	small := func(seq uint64) int { return bodyHeaderBytes + int(seq*37%1000) }
	to := func(queues ...string) func(uint64) []string { return func(uint64) []string { return queues } }
	plain := func(seq uint64) string { return fmt.Sprint("q.", seq%4) }
	onPlain := func(seq uint64) []string { return []string{plain(seq)} }
	key := func(k string) func(uint64) string { return func(uint64) string { return k } }
	return []*stream{
		{name: "plain", key: plain, bodyBytes: small, queues: onPlain, final: onPlain},
		{name: "transient", transient: true, key: plain, bodyBytes: small, queues: onPlain, final: onPlain},
		{name: "fan", exchange: "fan", key: key(""), bodyBytes: small, queues: to("fan.a", "fan.b"), final: to("fan.a", "fan.b")},
		{name: "large", key: key("large"), bodyBytes: func(seq uint64) int { return int(200+seq%7*100) << 10 },
			queues: to("large"), final: to("large")},
		{name: "ttl", key: key("ttl"), bodyBytes: small, queues: to("dead"), final: to("dead")},
		{name: "work", key: key("work"), bodyBytes: small,
			queues: func(seq uint64) []string {
				if rejects(seq) {
					return []string{"work", "dead"}
				}
				return []string{"work"}
			},
			final: func(seq uint64) []string {
				if rejects(seq) {
					return []string{"dead"}
				}
				return []string{"work"}
			}},
		{name: "tx", key: key("tx.in"), bodyBytes: small, queues: to("tx.in", "tx.out"), final: to("tx.out")},
	}
}

func rejects(seq uint64) bool  { return seq%3 == 0 }
func requeues(seq uint64) bool { return seq%5 == 1 }

var mixedQueues = []string{"q.0", "q.1", "q.2", "q.3", "fan.a", "fan.b", "large", "ttl", "work", "dead", "tx.in", "tx.out"}

// declareMixed declares the queues of mixedStreams; passive says that they have
// to be there already.
func declareMixed(t *testing.T, s *server, passive bool) {
	t.Helper()
	conn, err := amqp.Dial(s.url("guest:guest", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if passive {
		err = ch.ExchangeDeclarePassive("fan", "fanout", true, false, false, false, nil)
	} else {
		err = ch.ExchangeDeclare("fan", "fanout", true, false, false, false, nil)
	}
	for _, q := range mixedQueues {
		args := amqp.Table{}
		if q == "ttl" || q == "work" {
			args["x-dead-letter-exchange"], args["x-dead-letter-routing-key"] = "", "dead"
		}
		if q == "ttl" {
			args["x-message-ttl"] = ttlMillis
		}
		if err == nil && passive {
			_, err = ch.QueueDeclarePassive(q, true, false, false, false, nil)
		} else if err == nil {
			_, err = ch.QueueDeclare(q, true, false, false, false, args)
		}
		if err == nil && !passive && (q == "fan.a" || q == "fan.b") {
			err = ch.QueueBind(q, "", "fan", false, nil)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// life is the clients of one run of the broker.
type life struct {
	t       *testing.T
	c       *checker
	s       *server
	ending  atomic.Bool // the broker is about to go: errors are no news
	held    atomic.Int64
	clients sync.WaitGroup
	mu      sync.Mutex
	closers []func()
}

// dial opens a raw connection.
func (l *life) dial() *loadgen.Client {
	l.t.Helper()
	nc, err := net.Dial("tcp", l.s.addr)
	if err != nil {
		l.t.Fatal(err)
	}
	c, err := loadgen.Connect(nc)
	if err != nil {
		l.t.Fatal(err)
	}
	l.atEnd(func() { nc.Close() })
	return c
}

// dialOfficial opens a connection of the official client, with a channel in tx
// mode.
func (l *life) dialOfficial() *amqp.Channel {
	l.t.Helper()
	conn, err := amqp.Dial(l.s.url("guest:guest", ""))
	if err != nil {
		l.t.Fatal(err)
	}
	l.atEnd(func() { conn.Close() })
	ch, err := conn.Channel()
	if err == nil {
		err = ch.Tx()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return ch
}

func (l *life) atEnd(f func()) {
	l.mu.Lock()
	l.closers = append(l.closers, f)
	l.mu.Unlock()
}

// run is a client's goroutine. It may end with an error only when the broker
// ends.
func (l *life) run(what string, f func() error) {
	l.clients.Go(func() {
		if err := f(); err != nil && !l.ending.Load() {
			select {
			case <-l.s.ended: // not by us: the test says so
			default:
				l.t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// over waits for the clients of a broker that has gone or that they leave.
func (l *life) over() {
	l.ending.Store(true)
	l.mu.Lock()
	for _, f := range l.closers {
		f()
	}
	l.mu.Unlock()
	l.clients.Wait()
}

// publish sends a stream in bursts, with at most window publishes unconfirmed.
func (l *life) publish(s *stream, window, burst int) {
	c := l.dial()
	if err := c.Call(&wire.ConfirmSelect{}, wire.IDConfirmSelectOk); err != nil {
		l.t.Fatal(err)
	}
	room := make(chan struct{}, 1)
	over := make(chan struct{})
	l.run("publish "+s.name, func() error {
		var frames, body []byte
		for {
			for int(s.sent.Load()-s.born-s.settled.Load()) > window-burst {
				select {
				case <-room:
				case <-over:
					return nil
				}
			}
			first := s.sent.Load()
			frames = frames[:0]
			for seq := first; seq < first+uint64(burst); seq++ {
				body = l.c.appendBody(body[:0], makeID(s.index, seq))
				frames = loadgen.AppendPublish(frames, 1, s.exchange, s.key(seq), !s.transient, body)
			}
			s.sent.Add(uint64(burst))
			if err := c.Write(frames); err != nil {
				return err
			}
			s.written.Store(first + uint64(burst))
		}
	})
	l.run("confirms of "+s.name, func() error {
		defer close(over)
		low := s.born // all below it are settled
		for {
			f, err := c.NextConfirmation(nil)
			if err != nil {
				return err
			}
			state := uint8(confirmed)
			if f.Refused {
				state = refused
			}
			seq := s.born + f.Tag - 1
			if f.Multiple {
				s.settled.Add(s.settle(low, seq+1, state))
				low = seq + 1
			} else {
				s.settled.Add(s.settle(seq, seq+1, state))
			}
			select {
			case room <- struct{}{}:
			default:
			}
		}
	})
}

// settle sets the state of those that have none, and returns how many they were.
func (s *stream) settle(from, to uint64, state uint8) (n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for uint64(len(s.state)) < to {
		s.state = append(s.state, unanswered)
	}
	for i := from; i < to; i++ {
		if s.state[i] == unanswered {
			s.state[i] = state
			n++
		}
	}
	return n
}

// held is a delivery that has not been settled.
type held struct {
	tag uint64
	id  messageID
}

// consume takes everything from a queue and acknowledges it, but for the newest
// hold deliveries.
func (l *life) consume(queue string, hold int) {
	b, c := l.c.books[queue], l.consumer(queue)
	l.run("consume "+queue, func() error {
		var list []held
		ackAll := func() error {
			n := len(list) - hold
			if n <= 0 {
				return nil
			}
			if err := c.Ack(list[n-1].tag); err != nil {
				return err
			}
			for _, h := range list[:n] {
				b.settle(h.id, acked)
			}
			list = list[:copy(list, list[n:])]
			l.held.Add(int64(-n))
			return nil
		}
		for {
			d, err := c.NextDelivery(ackAll)
			if err != nil {
				return err
			}
			if id, ok := l.c.receive(b, d.Body, d.Redelivered); ok {
				list = append(list, held{d.Tag, id})
				l.held.Add(1)
			}
		}
	})
}

func (l *life) consumer(queue string) *loadgen.Client {
	c := l.dial()
	if err := c.Call(&wire.BasicQos{PrefetchCount: 1000}, wire.IDBasicQosOk); err != nil {
		l.t.Fatal(err)
	}
	// The answer is skipped with the first delivery: waiting for it here could
	// swallow one.
	if err := c.Write(wire.AppendMethodFrame(nil, 1, &wire.BasicConsume{Queue: queue, ConsumerTag: queue})); err != nil {
		l.t.Fatal(err)
	}
	return c
}

// work rejects, requeues and acknowledges, each as the message's number says.
func (l *life) work() {
	b, c := l.c.books["work"], l.consumer("work")
	l.run("work", func() error {
		for {
			d, err := c.NextDelivery(nil)
			if err != nil {
				return err
			}
			id, ok := l.c.receive(b, d.Body, d.Redelivered)
			if !ok {
				continue
			}
			var m wire.Method = &wire.BasicAck{DeliveryTag: d.Tag}
			change := acked
			switch {
			case requeues(id.seq()) && !d.Redelivered:
				m, change = &wire.BasicNack{DeliveryTag: d.Tag, Requeue: true}, requeued
			case rejects(id.seq()):
				m = &wire.BasicReject{DeliveryTag: d.Tag}
			}
			b.settle(id, change) // before it is sent: a requeued one may be back at once
			if err := c.Write(wire.AppendMethodFrame(nil, 1, m)); err != nil {
				return err
			}
		}
	})
}

// transactions publishes ten messages at a time to tx.in and commits, but rolls
// every fifth back.
func (l *life) transactions(s *stream) {
	ch := l.dialOfficial()
	l.run("transactions", func() error {
		for {
			first := s.sent.Load()
			s.sent.Add(txMessages)
			s.setState(first, first+txMessages, withdrawn)
			for seq := first; seq < first+txMessages; seq++ {
				body := l.c.appendBody(nil, makeID(s.index, seq))
				if err := ch.PublishWithContext(context.Background(), "", s.key(seq), false, false,
					amqp.Publishing{DeliveryMode: amqp.Persistent, Body: body}); err != nil {
					return err
				}
			}
			if first/txMessages%5 == 4 {
				if err := ch.TxRollback(); err != nil {
					return err
				}
				continue
			}
			s.setState(first, first+txMessages, unanswered)
			if err := ch.TxCommit(); err != nil {
				return err
			}
			s.setState(first, first+txMessages, confirmed)
		}
	})
}

// move takes messages from tx.in and publishes them to tx.out, in one
// transaction with their acknowledgement.
func (l *life) move() {
	ch, b := l.dialOfficial(), l.c.books["tx.in"]
	l.run("move", func() error {
		for {
			var ids []messageID
			var last uint64
			for len(ids) < moveBatch {
				d, ok, err := ch.Get("tx.in", false)
				if err != nil {
					return err
				}
				if !ok {
					break
				}
				id, ok := l.c.receive(b, d.Body, d.Redelivered)
				if !ok {
					continue
				}
				ids, last = append(ids, id), d.DeliveryTag
				if err := ch.PublishWithContext(context.Background(), "", "tx.out", false, false,
					amqp.Publishing{DeliveryMode: amqp.Persistent, Body: d.Body}); err != nil {
					return err
				}
			}
			if last > 0 {
				if err := ch.Ack(last, true); err != nil {
					return err
				}
			}
			if err := ch.TxCommit(); err != nil {
				return err
			}
			for _, id := range ids {
				b.settle(id, txFinished)
			}
		}
	})
}
