package amqpserver

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/wire"
)

// TestChaos lets several clients do everything at once to a few queues that
// dead-letter into each other, expire, overflow and are deleted under way, with
// the memory alarm going up and down. No connection may be closed for it, every
// one must still answer at the end, and nothing may be held once all is gone.
func TestChaos(t *testing.T) {
	t.Parallel()
	const clients, operations = 6, 1000
	r := newQuietRig(t, Config{}, 3<<20, 20*time.Millisecond)
	setUp := r.open(t, tuning{})
	setUp.send(1, &wire.ExchangeDeclare{Exchange: "fan", Type: "fanout", NoWait: true})
	setUp.send(1, &wire.ExchangeDeclare{Exchange: "heads", Type: "headers", NoWait: true})
	for i := range chaosQueues {
		setUp.call(1, chaosDeclare(i), wire.IDQueueDeclareOk)
	}
	// Somebody has to make room when all others are held.
	stop, drained := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(drained)
		drain(r.open(t, tuning{}), stop)
	}()
	var workers sync.WaitGroup
	for i := range clients {
		workers.Go(func() {
			x := &chaos{Rand: rand.New(rand.NewPCG(uint64(i), 7)), t: t, r: r, id: i}
			x.connect()
			for i := range operations {
				x.step()
				if i%6 == 0 {
					x.pause()
				}
			}
			x.finish()
		})
	}
	workers.Wait()
	eventually(t, "whoever hung up is gone", func() bool { return r.ConnCount() == 2 })
	close(stop)
	<-drained
	for i := range chaosQueues {
		setUp.call(1, &wire.QueueDelete{Queue: chaosQueue(i)}, wire.IDQueueDeleteOk)
	}
	if references, channels := r.engine.Stored(); references != 0 || channels != 0 {
		t.Errorf("%d references to message bodies and %d channels are still held", references, channels)
	}
}

// drain purges one queue after the other until stop.
func drain(c *raw, stop chan struct{}) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		c.send(1, &wire.QueuePurge{Queue: chaosQueue(i % chaosQueues)})
		_, m, err := c.method()
		if err != nil {
			c.t.Errorf("drain: %v", err)
			return
		}
		if _, gone := m.(*wire.ChannelClose); gone { // the queue is deleted
			c.send(1, &wire.ChannelCloseOk{})
			c.call(1, &wire.ChannelOpen{}, wire.IDChannelOpenOk)
		}
		select {
		case <-tick.C:
		case <-stop:
			return
		}
	}
}

const chaosQueues = 7

func chaosQueue(i int) string { return fmt.Sprint("chaos", i) }

// chaosDeclare is the declaration of a queue, always the same for one.
func chaosDeclare(i int) *wire.QueueDeclare {
	args := []wire.Table{
		nil,
		{{Key: "x-max-length", Value: int32(10)}, {Key: "x-dead-letter-exchange", Value: ""}, {Key: "x-dead-letter-routing-key", Value: chaosQueue(2)}},
		{{Key: "x-message-ttl", Value: int32(3)}, {Key: "x-dead-letter-exchange", Value: ""}, {Key: "x-dead-letter-routing-key", Value: chaosQueue(4)}},
		{{Key: "x-max-priority", Value: int32(5)}, {Key: "x-max-length", Value: int32(50)}, {Key: "x-overflow", Value: "reject-publish"}},
		{{Key: "x-dead-letter-exchange", Value: "fan"}},
		{{Key: "x-max-length-bytes", Value: int32(100_000)}, {Key: "x-overflow", Value: "reject-publish-dlx"}, {Key: "x-dead-letter-exchange", Value: "heads"}},
		{{Key: "x-expires", Value: int32(10)}, {Key: "x-dead-letter-exchange", Value: ""}},
	}
	return &wire.QueueDeclare{Queue: chaosQueue(i), Durable: i%2 == 0, Arguments: args[i]}
}

// chaos is one client. Channel 1 is plain, 2 transactional, 3 confirming.
type chaos struct {
	*rand.Rand
	t  *testing.T
	r  *rig
	id int

	c     *raw
	mu    sync.Mutex
	tags  [4][]uint64 // deliveries not settled, by channel
	cut   bool        // by ourselves
	ended chan error
	pong  chan struct{}
	tag   int
}

func (x *chaos) connect() {
	x.c = x.r.login(x.t, tuning{frameMax: 4096 << x.IntN(6), capabilities: []string{"consumer_cancel_notify", "connection.blocked"}})
	x.ended, x.pong = make(chan error, 1), make(chan struct{}, 1)
	x.mu.Lock()
	x.cut = false
	x.mu.Unlock()
	for id := uint16(1); id <= 3; id++ {
		x.send(x.opening(id))
	}
	go func() { x.ended <- x.read(x.c) }()
}

// opening opens a channel in its mode.
func (x *chaos) opening(channel uint16) []byte {
	b := onChannel(channel, &wire.ChannelOpen{})
	switch channel {
	case 2:
		b = append(b, onChannel(2, &wire.TxSelect{})...)
	case 3:
		b = append(b, onChannel(3, &wire.ConfirmSelect{})...)
	}
	x.mu.Lock()
	x.tags[channel] = nil
	x.mu.Unlock()
	return b
}

// read takes what comes until the connection ends. A channel that the server
// closes is opened again.
func (x *chaos) read(c *raw) error {
	for {
		channel, m, err := c.method()
		if err != nil {
			if x.hungUp() {
				return nil
			}
			return err
		}
		tag := uint64(0)
		switch m := m.(type) {
		case *wire.ConnectionBlocked:
			// What it has unacknowledged may be what fills the memory.
			x.hangUp(c)
		case *wire.ConnectionUpdateSecretOk:
			select {
			case x.pong <- struct{}{}:
			default:
			}
		case *wire.ConnectionCloseOk:
			return c.Close()
		case *wire.ConnectionClose:
			return fmt.Errorf("closed: %d %s", m.ReplyCode, m.ReplyText)
		case *wire.ChannelClose:
			b := append(onChannel(channel, &wire.ChannelCloseOk{}), x.opening(channel)...)
			go c.Write(b) // reading goes on while the server is not
		case *wire.BasicDeliver:
			tag = m.DeliveryTag
		case *wire.BasicGetOk:
			tag = m.DeliveryTag
		}
		if tag > 0 {
			x.mu.Lock()
			x.tags[channel] = append(x.tags[channel], tag)
			x.mu.Unlock()
		}
	}
}

// pause waits until the server has handled what was sent, so that a channel that
// it has closed is soon open again.
func (x *chaos) pause() {
	x.send(onChannel(0, &wire.ConnectionUpdateSecret{}))
	select {
	case <-x.pong:
	case err := <-x.ended:
		if err != nil {
			x.t.Errorf("client %d: %v", x.id, err)
		}
		x.connect()
	case <-time.After(patience):
		x.t.Errorf("client %d: no answer", x.id)
	}
}

// takeTag picks an unsettled delivery, 0 if there is none; once in fifty times it
// makes one up.
func (x *chaos) takeTag(channel uint16) uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	tags := x.tags[channel]
	if len(tags) == 0 {
		return 0
	}
	if x.IntN(50) == 0 {
		return uint64(x.IntN(3))
	}
	i := x.IntN(min(len(tags), 4))
	tag := tags[i]
	x.tags[channel] = append(tags[:i:i], tags[i+1:]...)
	return tag
}

func (x *chaos) queue() string { return chaosQueue(x.IntN(chaosQueues)) }

func (x *chaos) send(b []byte) {
	if _, err := x.c.Write(b); err != nil && !x.hungUp() {
		x.t.Errorf("client %d: %v", x.id, err)
	}
}

// hangUp ends the connection without a word.
func (x *chaos) hangUp(c *raw) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cut = true
	c.Close()
}

func (x *chaos) hungUp() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.cut
}

func (x *chaos) step() {
	if x.IntN(400) == 0 {
		x.hangUp(x.c)
		if err := <-x.ended; err != nil {
			x.t.Errorf("client %d: %v", x.id, err)
		}
		x.connect()
		return
	}
	channel := uint16(1 + x.IntN(3))
	if x.IntN(2) == 0 {
		x.send(x.publish(channel))
		return
	}
	x.send(onChannel(channel, x.method(channel)))
}

// publish is a message with properties that matter to the broker.
func (x *chaos) publish(channel uint16) []byte {
	m := &wire.BasicPublish{RoutingKey: x.queue(), Mandatory: x.IntN(5) == 0}
	if x.IntN(4) == 0 {
		m.Exchange = []string{"fan", "heads"}[x.IntN(2)]
	}
	var p wire.Properties
	if x.IntN(3) == 0 {
		p.Flags, p.DeliveryMode = p.Flags|wire.FlagDeliveryMode, 2
	}
	if x.IntN(6) == 0 {
		p.Flags |= wire.FlagExpiration
		p.Expiration = fmt.Sprint(x.IntN(5))
	}
	if x.IntN(6) == 0 {
		p.Flags |= wire.FlagHeaders
		p.Headers = wire.Table{{Key: []string{"CC", "BCC"}[x.IntN(2)], Value: wire.Array{x.queue()}}, {Key: "a", Value: int32(x.IntN(2))}}
	}
	if x.IntN(30) == 0 {
		p.Flags |= wire.FlagReplyTo
		p.ReplyTo = "amq.rabbitmq.reply-to"
	}
	size := x.IntN(500)
	if x.IntN(10) == 0 {
		size = x.IntN(300_000)
	}
	return wire.AppendContent(nil, channel, m, &p, make([]byte, size), 4096)
}

func (x *chaos) method(channel uint16) wire.Method {
	switch x.IntN(30) {
	case 0:
		return chaosDeclare(x.IntN(chaosQueues))
	case 1:
		return []wire.Method{&wire.QueueDelete{Queue: chaosQueue([]int{0, 1, 2, 6}[x.IntN(4)])}, &wire.QueuePurge{Queue: x.queue()}}[x.IntN(2)]
	case 2:
		return &wire.QueueBind{Queue: x.queue(), Exchange: "fan"}
	case 3:
		return &wire.QueueBind{Queue: x.queue(), Exchange: "heads", Arguments: wire.Table{{Key: "a", Value: int32(x.IntN(2))}}}
	case 4:
		return &wire.QueueUnbind{Queue: x.queue(), Exchange: "fan"}
	case 5, 6:
		x.tag++
		return &wire.BasicConsume{Queue: x.queue(), ConsumerTag: fmt.Sprint("c", x.tag), NoAck: x.IntN(4) == 0, Exclusive: x.IntN(20) == 0}
	case 7:
		return &wire.BasicConsume{Queue: "amq.rabbitmq.reply-to", ConsumerTag: fmt.Sprint("c", x.tag), NoAck: true}
	case 8, 9:
		return &wire.BasicCancel{ConsumerTag: fmt.Sprint("c", x.tag-x.IntN(3)), NoWait: x.IntN(2) == 0}
	case 10:
		return &wire.BasicQos{PrefetchCount: uint16(x.IntN(10)), Global: x.IntN(2) == 0}
	case 11:
		return &wire.BasicRecover{Requeue: true}
	case 12, 13, 14, 15, 16, 17, 18, 19, 20, 21:
		if tag := x.takeTag(channel); tag > 0 {
			return x.settle(tag)
		}
	case 22, 23:
		if channel == 2 {
			return []wire.Method{&wire.TxCommit{}, &wire.TxRollback{}}[x.IntN(2)]
		}
	}
	return &wire.BasicGet{Queue: x.queue(), NoAck: x.IntN(3) == 0}
}

func (x *chaos) settle(tag uint64) wire.Method {
	switch x.IntN(5) {
	case 0:
		return &wire.BasicNack{DeliveryTag: tag, Multiple: x.IntN(4) == 0, Requeue: x.IntN(2) == 0}
	case 1:
		return &wire.BasicReject{DeliveryTag: tag, Requeue: x.IntN(2) == 0}
	}
	return &wire.BasicAck{DeliveryTag: tag, Multiple: x.IntN(4) == 0}
}

// finish says goodbye, which the server has to answer.
func (x *chaos) finish() {
	x.send(onChannel(0, &wire.ConnectionClose{ReplyCode: 200}))
	select {
	case err := <-x.ended:
		if err != nil {
			x.t.Errorf("client %d: %v", x.id, err)
		}
	case <-time.After(patience):
		x.t.Errorf("client %d: no answer", x.id)
	}
}
