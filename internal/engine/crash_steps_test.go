package engine

import (
	"fmt"
	"time"

	"github.com/warrenmq/warren/internal/wire"
)

var crashQueues = []wire.QueueDeclare{
	{Queue: "a", Durable: true},
	{Queue: "b", Durable: true, Arguments: arguments("x-dead-letter-exchange", "dlx", "x-dead-letter-routing-key", "dead")},
	{Queue: "dead", Durable: true, Arguments: arguments("x-max-length", 60)},
	{Queue: "levels", Durable: true, Arguments: arguments("x-max-priority", 3)},
	{Queue: "expire", Durable: true, Arguments: arguments("x-message-ttl", 40, "x-dead-letter-exchange", "", "x-dead-letter-routing-key", "short")},
	{Queue: "short", Durable: true, Arguments: arguments("x-max-length", 5, "x-dead-letter-exchange", "", "x-dead-letter-routing-key", "dead")},
	{Queue: "full", Durable: true, Arguments: arguments("x-max-length", 4, "x-overflow", "reject-publish")},
	{Queue: "divert", Durable: true, Arguments: arguments("x-max-length", 3, "x-overflow", "reject-publish-dlx",
		"x-dead-letter-exchange", "dlx", "x-dead-letter-routing-key", "dead")},
	{Queue: "limit", Durable: true, Arguments: arguments("x-queue-type", "quorum", "x-delivery-limit", 1,
		"x-delayed-retry-type", "failed", "x-delayed-retry-min", 10,
		"x-dead-letter-exchange", "dlx", "x-dead-letter-routing-key", "dead")},
	{Queue: "sure", Durable: true, Arguments: arguments("x-queue-type", "quorum", "x-delivery-limit", 2, "x-message-ttl", 200,
		"x-dead-letter-strategy", "at-least-once", "x-overflow", "reject-publish", "x-max-length", 20,
		"x-dead-letter-exchange", "", "x-dead-letter-routing-key", "full")},
	{Queue: "memory", Arguments: arguments("x-max-length", 20)},
	{Queue: "w1", Durable: true},
	{Queue: "w2", Durable: true, AutoDelete: true},
	{Queue: "w3", Durable: true, Arguments: arguments("x-expires", 500)},
}

var crashExchanges = []wire.ExchangeDeclare{
	{Exchange: "dlx", Type: "direct", Durable: true},
	{Exchange: "fan", Type: "fanout", Durable: true},
	{Exchange: "topic", Type: "topic", Durable: true, AutoDelete: true},
	{Exchange: "inner", Type: "fanout", Durable: true, AutoDelete: true},
	{Exchange: "passing", Type: "direct"},
}

func (d *driver) anyQueue() string { return crashQueues[d.rng.IntN(len(crashQueues))].Queue }

// step does one operation. It reports whether it was answered in a way that says
// that everything so far is durable.
func (d *driver) step() (answered bool) {
	p := d.connect(&d.pub)
	if len(d.l.states) == 1 {
		return d.declareAll()
	}
	switch n := d.rng.IntN(100); {
	case n < 4 && d.r.long:
		d.note = "flood"
		d.flood(p)
	case n < 34:
		d.note = "publish"
		d.publish(p)
	case n < 46:
		d.note = "get"
		d.get(d.connect(&d.take))
	case n < 52:
		d.note = "consume"
		d.consume(d.connect(&d.take))
	case n < 64:
		d.note = "decide"
		d.decide(d.connect(&d.take))
	case n < 74:
		d.note = "transact"
		d.transact(d.connect(&d.tx))
	case n < 80:
		d.note = "time"
		d.clock.advance(time.Duration(d.rng.IntN(40)) * time.Millisecond)
		if d.rng.IntN(8) == 0 {
			d.clock.advance(2 * time.Second) // queues expire, dead letters that wait are tried again
		}
	case n < 90:
		d.note = "define"
		return d.define(p)
	case n < 94 && d.housekeeping == nil:
		d.note = "housekeep"
		d.housekeep()
	case n < 96:
		d.note = "end of the consumer"
		d.take.end(&d.take)
	case n < 97:
		d.note = "end of the publisher"
		d.pub.end(&d.pub)
	case n < 98:
		d.abandonUpload(p)
	default:
		d.note = "flush"
		d.flush(p)
	}
	return false
}

// abandonUpload begins a large body and ends the channel in the middle of it.
func (d *driver) abandonUpload(s *crashClient) {
	props := wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: 2}
	view, err := wire.ScanProps(props.AppendTo(nil))
	if err != nil {
		panic(err)
	}
	if s.ch.BeginUpload(1<<20, &view) {
		s.ch.Upload(crashBody(1, d.rng.IntN(200_000)+8))
	}
	s.reopen()
}

// end closes a connection.
func (s *crashClient) end(at **crashClient) {
	if s != nil {
		s.c.Close()
		*at = nil
	}
}

// flush ends a read in one of the ways there are.
func (d *driver) flush(s *crashClient) {
	switch d.rng.IntN(3) {
	case 0:
		s.c.Flush()
	case 1:
		s.c.EndRead(false, false)
	default:
		s.c.EndRead(true, false)
	}
}

func (d *driver) declareAll() bool {
	for i := range crashExchanges {
		if !d.pub.ok(d.pub.ch.DeclareExchange(&crashExchanges[i])) {
			return false
		}
	}
	for i := range crashQueues {
		if _, err := d.pub.ch.DeclareQueue(&crashQueues[i]); !d.pub.ok(err) {
			return false
		}
	}
	d.pub.ok(d.pub.ch.BindQueue(&wire.QueueBind{Queue: "dead", Exchange: "dlx", RoutingKey: "dead"}))
	for _, q := range []string{"a", "b", "levels", "memory", "short"} {
		d.pub.ok(d.pub.ch.BindQueue(&wire.QueueBind{Queue: q, Exchange: "fan"}))
	}
	return true
}

func (d *driver) publish(s *crashClient) {
	for range 1 + d.rng.IntN(1+d.rng.IntN(12)) {
		exchange, key, expiration := "", d.anyQueue(), ""
		switch d.rng.IntN(8) {
		case 0:
			exchange = "fan"
		case 1:
			exchange, key = "topic", fmt.Sprint("k.", d.rng.IntN(3))
		case 2:
			expiration = fmt.Sprint(d.rng.IntN(60))
		}
		if !s.ok(s.publish(exchange, key, expiration, d.rng.IntN(2) == 0)) {
			return
		}
	}
	d.flush(s)
}

// flood makes a queue some pages long.
func (d *driver) flood(s *crashClient) {
	key := []string{"a", "a", "levels", "expire"}[d.rng.IntN(4)]
	expiration := ""
	if key == "expire" {
		expiration = fmt.Sprint(d.rng.IntN(60))
	}
	for range 300 + d.rng.IntN(600) {
		if !s.ok(s.send("", key, expiration, false, true, 8+d.rng.IntN(20))) {
			return
		}
	}
	d.flush(s)
}

func (d *driver) get(s *crashClient) {
	for range 1 + d.rng.IntN(4) {
		_, err := s.ch.Get(d.anyQueue(), d.rng.IntN(2) == 0)
		if !s.ok(err) {
			return
		}
	}
	s.read()
	// Those without acknowledgement have tags that are not out.
	s.tags = s.outOnly()
}

func (s *crashClient) outOnly() (tags []uint64) {
	o := s.c.Out
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, tag := range s.tags {
		if list, ok := s.ch.unacked.Settle(nil, tag, false); ok {
			s.ch.unacked.Restore(tag, list[0])
			tags = append(tags, tag)
		}
	}
	return tags
}

func (d *driver) consume(s *crashClient) {
	if d.rng.IntN(3) == 0 {
		s.ch.Cancel("c1")
		return
	}
	s.ok(s.ch.Consume(Consume{Queue: d.anyQueue(), Tag: fmt.Sprint("c", d.rng.Uint32()), NoAck: d.rng.IntN(3) == 0}))
}

// decide settles deliveries.
func (d *driver) decide(s *crashClient) {
	s.tags = s.outOnly()
	for range min(len(s.tags), 1+d.rng.IntN(5)) {
		i := d.rng.IntN(len(s.tags))
		tag := s.tags[i]
		multiple := d.rng.IntN(6) == 0
		var err *wire.Error
		switch d.rng.IntN(7) {
		case 6:
			err = s.ch.Reject(tag, true)
		case 0:
			err = s.ch.Nack(tag, multiple, true)
		case 1:
			err = s.ch.Nack(tag, multiple, false)
		default:
			err = s.ch.Ack(tag, multiple)
		}
		if !s.ok(err) {
			return
		}
		d.flush(s)
		s.read()
		if s.tags = s.outOnly(); len(s.tags) == 0 {
			return
		}
	}
}

// transact publishes to several queues and settles what it got from several, in
// one transaction.
func (d *driver) transact(s *crashClient) {
	for range d.rng.IntN(6) {
		exchange, key := "", d.anyQueue()
		switch d.rng.IntN(4) {
		case 0:
			exchange = "fan"
		case 1:
			exchange, key = "topic", fmt.Sprint("k.", d.rng.IntN(3))
		}
		if !s.ok(s.publish(exchange, key, "", false)) {
			return
		}
	}
	for range d.rng.IntN(5) {
		name := []string{"a", "b", "levels", "dead", "short", "memory"}[d.rng.IntN(6)]
		ok, err := s.ch.Get(name, false)
		if !s.ok(err) {
			return
		}
		if s.read(); ok && !d.settleInTx(s, name) {
			return
		}
	}
	d.flush(s)
	if d.rng.IntN(4) == 0 {
		s.ok(s.ch.RollbackTx())
		s.inTx, s.ended = nil, nil
		return
	}
	book := txBook{op: d.l.op, published: s.inTx, ended: s.ended}
	s.inTx, s.ended = nil, nil
	d.l.mu.Lock()
	d.l.txs = append(d.l.txs, book)
	d.l.mu.Unlock()
	d.r.tally.transactions++
	if d.rng.IntN(8) == 0 {
		d.hook.soon(6) // while it is being written
	}
	s.ok(s.ch.CommitTx(func() {
		// commit-ok is a confirm of all of it.
		d.l.mu.Lock()
		d.l.confirmed = append(d.l.confirmed, book.published...)
		d.l.mu.Unlock()
	}))
}

// settleInTx decides about the last delivery.
func (d *driver) settleInTx(s *crashClient, name string) bool {
	tag := s.tags[len(s.tags)-1]
	switch d.rng.IntN(8) {
	case 0:
		return s.ok(s.ch.Nack(tag, false, true))
	case 1:
		if name == "b" || name == "short" { // dead-lettered, which is no part of the transaction
			return s.ok(s.ch.Nack(tag, false, false))
		}
	case 2:
		return true // stays out
	}
	o := s.c.Out
	o.mu.Lock()
	list, ok := s.ch.unacked.Settle(nil, tag, false)
	s.ch.unacked.Restore(tag, list[0])
	o.mu.Unlock()
	if !ok {
		panic("a delivery is out and is not")
	}
	at := place{list[0].src.q.id, list[0].seq}
	if id := d.o.ids[at]; id&idPersistent != 0 && list[0].src.q.def.Durable {
		if s.ended == nil {
			s.ended = map[place]uint64{}
		}
		s.ended[at] = id
	}
	return s.ok(s.ch.Ack(tag, false))
}

// define changes the topology, or purges.
func (d *driver) define(s *crashClient) bool {
	wild := crashQueues[len(crashQueues)-1-d.rng.IntN(3)]
	wildX := crashExchanges[2+d.rng.IntN(3)]
	key := fmt.Sprint("k.", d.rng.IntN(3))
	switch d.rng.IntN(8) {
	case 0:
		name := d.anyQueue()
		_, err := s.ch.Purge(name)
		return s.ok(err) && name != "memory"
	case 1:
		return s.ok(s.ch.DeleteQueue(&wire.QueueDelete{Queue: wild.Queue}, func(uint32) {})) && false
	case 2:
		_, err := s.ch.DeclareQueue(&wild)
		return s.ok(err)
	case 3:
		s.ok(s.ch.DeleteExchange(&wire.ExchangeDelete{Exchange: wildX.Exchange}))
	case 4:
		return s.ok(s.ch.DeclareExchange(&wildX)) && wildX.Durable
	case 5:
		queue := []string{wild.Queue, "a", "memory"}[d.rng.IntN(3)]
		return s.ok(s.ch.BindQueue(&wire.QueueBind{Queue: queue, Exchange: "topic", RoutingKey: key})) && queue != "memory"
	case 6:
		queue := []string{wild.Queue, "a", "memory"}[d.rng.IntN(3)]
		s.ok(s.ch.UnbindQueue(&wire.QueueUnbind{Queue: queue, Exchange: "topic", RoutingKey: key}))
	case 7:
		if d.rng.IntN(2) == 0 {
			return s.ok(s.ch.BindExchange(&wire.ExchangeBind{Source: "inner", Destination: "fan"}))
		}
		s.ok(s.ch.UnbindExchange(&wire.ExchangeUnbind{Source: "inner", Destination: "fan"}))
	}
	return false
}

// housekeep does what the janitor does.
func (d *driver) housekeep() {
	t := &d.r.tally
	if d.rng.IntN(2) == 0 {
		if err := d.e.checkpoint(func() bool { return false }); err != nil {
			d.o.fail("checkpoint: %v", err)
		}
		t.checkpoints++
	}
	before := d.e.disk.Use()
	d.e.janitor.round()
	for _, q := range d.e.allQueues() {
		q.mu.Lock()
		t.cold += q.m.ColdPages()
		q.mu.Unlock()
	}
	after := d.e.disk.Use()
	t.dropped += len(before) - len(after)
	refs := map[uint32]int64{}
	for _, f := range before {
		refs[f.Number] = f.Refs
	}
	for _, f := range after {
		if refs[f.Number] > 0 && f.Refs == 0 {
			t.moved++
		}
	}
}

// housekeepAllTheTime has the janitor work beside everything else.
func (d *driver) housekeepAllTheTime() (stop func()) {
	d.housekeeping = make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case <-d.housekeeping:
				return
			default:
			}
			// An error can only be that the engine has ended, which others see.
			_ = d.e.checkpoint(func() bool { return false })
			d.e.janitor.round()
		}
	}()
	return func() {
		close(d.housekeeping)
		<-over
	}
}
