package engine

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/warrenmq/warren/internal/wire"
)

// client is one connection after the other.
type client struct {
	w      *world
	rng    *rand.Rand
	number uint64
	lastID uint64
	conn   *Conn
	dying  bool
	writer sync.WaitGroup

	mu    sync.Mutex
	inbox []received

	channels    map[uint16]*model
	lastChannel uint16
	lastTag     int
}

// model is what a client knows of a channel.
type model struct {
	ch         *Channel
	out        map[uint64]delivered
	gets       []string          // queues of basic.gets not answered yet
	consumers  map[string]string // tag to queue
	newest     map[string]uint64 // by consumer and publisher: the last first delivery
	confirming bool
	published  uint64
	confirmed  uint64
	tx         bool
	txCopies   []copyOf
	txSettled  []delivered
}

type delivered struct {
	copyOf
	safe bool
	dead bool   // it came from the queue "dead"
	tag  uint64 // in txSettled: its delivery tag
	ends bool   // in txSettled: the decision ends it
}

func newClient(w *world, number, seed uint64) *client {
	c := &client{w: w, number: number, rng: rand.New(rand.NewPCG(seed, number+1))}
	c.connect()
	return c
}

func (c *client) connect() {
	conn, err := c.w.e.Open("/", ConnInfo{User: "guest", FrameMax: 131072, CancelNotify: true})
	must(c.w.t, err)
	c.conn, c.channels, c.inbox = conn, map[uint16]*model{}, nil
	if !c.w.inTurn {
		c.writer.Go(func() {
			for {
				b, done, ok := turn(conn.Out)
				if !ok {
					return
				}
				list, err := parse(b)
				if err != nil {
					c.w.t.Error(err)
				}
				c.mu.Lock()
				c.inbox = append(c.inbox, list...)
				c.mu.Unlock()
				if done() {
					conn.Refill()
				}
			}
		})
	}
}

// write is the writer's turn, or as many as it takes.
func (c *client) write(all bool) {
	for c.w.inTurn {
		list, any := drainOnce(c.w.t, c.conn)
		c.inbox = append(c.inbox, list...)
		if !any || !all {
			return
		}
	}
}

// cut ends the connection.
func (c *client) cut() {
	c.conn.Close()
	c.writer.Wait()
}

func (c *client) openChannel() *model {
	c.lastChannel++
	m := &model{ch: c.conn.OpenChannel(c.lastChannel), out: map[uint64]delivered{},
		consumers: map[string]string{}, newest: map[string]uint64{}}
	c.channels[c.lastChannel] = m
	switch c.rng.IntN(4) {
	case 0:
		must(c.w.t, m.ch.SelectTx())
		m.tx = true
	case 1, 2:
		must(c.w.t, m.ch.SelectConfirm())
		m.confirming = true
	}
	m.ch.Qos(uint16(c.rng.IntN(20)), false)
	m.ch.Qos(uint16(c.rng.IntN(3)*c.rng.IntN(20)), true)
	return m
}

func (c *client) closeChannel(m *model) {
	c.conn.Flush()
	m.ch.Close()
	delete(c.channels, m.ch.target.Channel)
}

func (c *client) anyChannel() *model {
	if len(c.channels) == 0 || len(c.channels) < 3 && c.rng.IntN(10) == 0 {
		return c.openChannel()
	}
	ids := slices.Sorted(maps.Keys(c.channels))
	return c.channels[ids[c.rng.IntN(len(ids))]]
}

func (c *client) anyQueue() string {
	all := append(slices.Clone(safeQueues), "dead")
	if c.rng.IntN(2) == 0 {
		return all[c.rng.IntN(len(all))]
	}
	return wildQueues[c.rng.IntN(len(wildQueues))].Queue
}

// step does one thing that a client may do.
func (c *client) step() {
	if c.dying && c.rng.IntN(5) == 0 {
		c.dying = false
		c.cut()
		c.connect()
	}
	c.read()
	m := c.anyChannel()
	n := c.rng.IntN(1000)
	if n >= 600 { // what is neither publish nor ack is preceded by a flush
		c.conn.Flush()
	}
	switch {
	case n < 420:
		c.publish(m)
	case n < 600:
		c.settle(m, false)
	case n < 680:
		c.settle(m, true)
	case n < 760:
		c.consume(m)
	case n < 800:
		c.get(m)
	case n < 840:
		c.cancel(m)
	case n < 860:
		m.ch.Qos(uint16(c.rng.IntN(3)*c.rng.IntN(20)), true)
	case n < 900:
		c.changeTopology(m)
	case n < 930:
		c.endTransaction(m, c.rng.IntN(3) > 0)
	case n < 945:
		c.recover(m)
	case n < 980:
		c.closeChannel(m)
	case n < 985:
		if c.w.kills && c.rng.IntN(2) == 0 {
			// A write has failed; the reader goes on until it notices.
			c.conn.Out.Close()
			c.dying = true
			break
		}
		c.cut()
		c.connect()
	default:
		c.conn.Flush()
	}
}

func (c *client) publish(m *model) {
	c.lastID++
	p := publishing{
		id:        (c.number*2+1)<<40 | c.lastID,
		bodyBytes: 8 + c.rng.IntN(2)*c.rng.IntN(30_000), persistent: c.rng.IntN(2) == 0,
		mandatory: c.rng.IntN(2) == 0, priority: uint8(c.rng.IntN(7)),
	}
	var copies []copyOf
	switch c.rng.IntN(4) {
	case 0:
		p.exchange = "amq.fanout"
		for _, q := range safeQueues {
			copies = append(copies, copyOf{p.id, q})
		}
	case 1:
		p.key = safeQueues[c.rng.IntN(2)]
		copies = []copyOf{{p.id, p.key}}
	default:
		p.key = wildQueues[c.rng.IntN(len(wildQueues))].Queue
		if c.rng.IntN(3) == 0 {
			p.expiration = fmt.Sprint(c.rng.IntN(30))
		}
	}
	if m.tx { // in their queues at the commit, not in order with the others
		p.id += 1 << 40
		for i := range copies {
			copies[i].id = p.id
		}
	}
	must(c.w.t, send(m.ch, p))
	if m.confirming {
		m.published++
	}
	if m.tx {
		m.txCopies = append(m.txCopies, copies...)
	} else {
		c.w.count(c.w.expected, copies...)
	}
}

// settle acknowledges, or gives back or rejects, one delivery or several.
func (c *client) settle(m *model, negative bool) {
	if len(m.out) == 0 {
		return
	}
	tags := slices.Sorted(maps.Keys(m.out))
	i := c.rng.IntN(len(tags))
	list, multiple := tags[i:i+1], c.rng.IntN(2) == 0
	if multiple {
		list = tags[:i+1]
	}
	requeue := negative && c.rng.IntN(2) == 0
	if negative {
		must(c.w.t, m.ch.Nack(tags[i], multiple, requeue))
	} else {
		must(c.w.t, m.ch.Ack(tags[i], multiple))
	}
	for _, tag := range list {
		d := m.out[tag]
		delete(m.out, tag)
		// What is rejected in the safe queues lives on in "dead".
		d.tag, d.ends = tag, d.safe && !requeue && (!negative || d.dead)
		if m.tx {
			m.txSettled = append(m.txSettled, d)
		} else if d.ends {
			c.w.count(c.w.ended, d.copyOf)
		}
	}
}

func (c *client) endTransaction(m *model, commit bool) {
	if !m.tx {
		return
	}
	if commit {
		err := m.ch.CommitTx(func() {})
		c.w.count(c.w.expected, m.txCopies...)
		for _, d := range m.txSettled {
			if d.ends {
				c.w.count(c.w.ended, d.copyOf)
			}
		}
		if err != nil { // a full queue refused some
			c.closeChannel(m)
		}
	} else {
		must(c.w.t, m.ch.RollbackTx())
		for _, d := range m.txSettled {
			m.out[d.tag] = d
		}
	}
	m.txCopies, m.txSettled = nil, nil
}

func (c *client) endTransactions() {
	c.conn.Flush()
	for _, id := range slices.Sorted(maps.Keys(c.channels)) {
		m := c.channels[id]
		if m.tx {
			c.closeChannel(m)
		}
	}
}

func (c *client) recover(m *model) {
	clear(m.out)
	m.ch.Recover()
}

func (c *client) consume(m *model) {
	q := c.anyQueue()
	c.lastTag++
	r := Consume{Queue: q, Tag: fmt.Sprint("t", c.lastTag), NoAck: !isSafe(q) && c.rng.IntN(3) == 0}
	if c.rng.IntN(3) == 0 {
		r.Args = arguments("x-priority", c.rng.IntN(3))
	}
	m.consumers[r.Tag] = q
	if err := m.ch.Consume(r); err != nil {
		if err.Code != wire.NotFound {
			c.w.t.Error(err)
		}
		c.closeChannel(m)
	}
}

func (c *client) cancel(m *model) {
	if tags := slices.Sorted(maps.Keys(m.consumers)); len(tags) > 0 {
		m.ch.Cancel(tags[c.rng.IntN(len(tags))])
	}
}

func (c *client) get(m *model) {
	q := c.anyQueue()
	ok, err := m.ch.Get(q, !isSafe(q) && c.rng.IntN(2) == 0)
	switch {
	case err != nil && err.Code == wire.NotFound:
		c.closeChannel(m)
	case err != nil:
		c.w.t.Error(err)
	case ok:
		m.gets = append(m.gets, q)
	}
}

func (c *client) changeTopology(m *model) {
	d := wildQueues[c.rng.IntN(len(wildQueues))]
	var err *wire.Error
	switch c.rng.IntN(6) {
	case 0:
		err = m.ch.DeleteQueue(&wire.QueueDelete{Queue: d.Queue}, func(uint32) {})
	case 1:
		_, err = m.ch.Purge(d.Queue)
	default:
		if _, err = m.ch.DeclareQueue(&d); err == nil && c.rng.IntN(2) == 0 {
			err = m.ch.BindQueue(&wire.QueueBind{Queue: d.Queue, Exchange: "amq.fanout"})
		}
	}
	if err != nil {
		if err.Code != wire.NotFound {
			c.w.t.Error(err)
		}
		c.closeChannel(m)
	}
}

// read handles what has arrived.
func (c *client) read() (any bool) {
	c.mu.Lock()
	list := c.inbox
	c.inbox = nil
	c.mu.Unlock()
	for _, r := range list {
		if m := c.channels[r.channel]; m != nil {
			c.receive(m, r)
		}
	}
	return len(list) > 0
}

func (c *client) receive(m *model, r received) {
	t := c.w.t
	switch x := r.method.(type) {
	case *wire.BasicDeliver:
		q, known := m.consumers[x.ConsumerTag]
		if !known {
			t.Errorf("delivery to consumer %q, which there is not", x.ConsumerTag)
		}
		m.arrived(q, x.RoutingKey, r.id, x.DeliveryTag)
		// Messages of one publisher come in order; one that a dying connection
		// gave back may come late.
		key := fmt.Sprint(x.ConsumerTag, " ", r.id>>40)
		if slices.Contains(safeQueues, q) && !x.Redelivered && !c.w.kills && r.id>>40&1 == 1 {
			if r.id < m.newest[key] {
				t.Errorf("queue %s: message %x after %x", q, r.id, m.newest[key])
			}
			m.newest[key] = r.id
		}
	case *wire.BasicGetOk:
		m.arrived(m.gets[0], x.RoutingKey, r.id, x.DeliveryTag)
		m.gets = m.gets[1:]
	case *wire.BasicAck:
		m.confirm(t, x.DeliveryTag, x.Multiple)
	case *wire.BasicNack:
		m.confirm(t, x.DeliveryTag, x.Multiple)
	}
}

// arrived notes a delivery, unless it needs no acknowledgement, or was recovered
// before it was read.
func (m *model) arrived(queue, key string, id, tag uint64) {
	if m.awaits(tag) {
		m.out[tag] = delivered{copyOf: copyIn(queue, key, id), safe: isSafe(queue), dead: queue == "dead"}
	}
}

// awaits tells whether the broker has that delivery as unacknowledged.
func (m *model) awaits(tag uint64) bool {
	o := m.ch.conn.Out
	o.mu.Lock()
	defer o.mu.Unlock()
	list, ok := m.ch.unacked.Settle(nil, tag, false)
	if ok {
		m.ch.unacked.Restore(tag, list[0])
	}
	return ok
}

func (m *model) confirm(t testing.TB, tag uint64, multiple bool) {
	if tag <= m.confirmed || tag > m.published || !multiple && tag != m.confirmed+1 {
		t.Errorf("confirm %d (multiple %t) after %d of %d", tag, multiple, m.confirmed, m.published)
	}
	m.confirmed = tag
}

// settleAll reads and acknowledges everything. It reports whether there was
// anything to do, or anything under way.
func (c *client) settleAll() (busy bool) {
	c.conn.Flush()
	c.write(true)
	busy = c.read()
	for _, id := range slices.Sorted(maps.Keys(c.channels)) {
		m := c.channels[id]
		for len(m.out) > 0 {
			busy = true
			c.settle(m, false)
		}
	}
	c.conn.Flush()
	return busy || c.conn.Out.held.Load() != 0
}
