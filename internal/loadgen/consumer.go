package loadgen

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/warrenmq/warren/internal/wire"
)

// errEnough ends a consumer that has what it wanted.
var errEnough = errors.New("enough")

// consumer is one connection that receives. All of it runs in one goroutine;
// received may be read by any.
type consumer struct {
	r     *runner
	c     *Client
	queue string
	limit int64

	received atomic.Int64
	got      int64 // like received, not yet shown
	acks     int   // deliveries since the last ack
	lastTag  uint64
	due      bool  // an ack waits for the end of the read
	nowNanos int64 // clock of this read, 0 if not looked at
	last     int64 // stamp and number of the last equal latencies
	same     int64
	start    int64
	get      []byte
}

func newConsumer(r *runner, c *Client, queue string) *consumer {
	k := &consumer{r: r, c: c, queue: queue, limit: r.cfg.ConsumeCount}
	if r.cfg.Polling {
		k.get = wire.AppendMethodFrame(nil, channelNumber, &wire.BasicGet{Queue: queue, NoAck: r.cfg.AutoAck})
	}
	return k
}

// subscribe asks for deliveries, unless the consumer polls.
func (k *consumer) subscribe() error {
	cfg := k.r.cfg
	if k.get != nil {
		return nil
	}
	if cfg.Prefetch > 0 && !cfg.AutoAck {
		if err := k.c.Call(&wire.BasicQos{PrefetchCount: uint16(cfg.Prefetch)}, wire.IDBasicQosOk); err != nil {
			return err
		}
	}
	return k.c.Call(&wire.BasicConsume{Queue: k.queue, ConsumerTag: "bench", NoAck: cfg.AutoAck}, wire.IDBasicConsumeOk)
}

// run receives until it has enough or the connection ends.
func (k *consumer) run(ctx context.Context) error {
	k.start = k.r.since()
	if k.r.cfg.ConsumerRate > 0 {
		precise()
	}
	var err error
	for err == nil {
		if k.get != nil {
			err = k.poll(ctx)
			continue
		}
		var d Delivery
		if d, err = k.c.NextDelivery(k.beforeRead); err == nil {
			err = k.take(ctx, &d)
		}
	}
	k.show()
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// take counts one delivery and acknowledges it when it is time to.
func (k *consumer) take(ctx context.Context, d *Delivery) error {
	if k.nowNanos == 0 {
		k.nowNanos = k.r.since()
	}
	if len(d.Body) >= stampBytes && binary.BigEndian.Uint32(d.Body[8:]) == k.r.id {
		at := int64(binary.BigEndian.Uint64(d.Body))
		if at != k.last {
			k.record()
			k.last = at
		}
		k.same++
	}
	k.got++
	k.lastTag = d.Tag
	if !k.r.cfg.AutoAck {
		if k.acks++; k.acks >= max(1, k.r.cfg.AckEvery) {
			if err := k.ack(); err != nil {
				return err
			}
		}
	}
	if k.limit > 0 && k.got >= k.limit {
		return errEnough
	}
	return k.throttle(ctx)
}

// ack acknowledges what has come; in batched mode at the end of the read.
func (k *consumer) ack() error {
	if k.r.cfg.Batched && k.get == nil {
		k.due = true
		return nil
	}
	return k.ackNow()
}

func (k *consumer) ackNow() error {
	multiple := k.acks > 1
	k.acks, k.due = 0, false
	return k.c.ackOne(k.lastTag, multiple)
}

// throttle keeps to the consumer rate.
func (k *consumer) throttle(ctx context.Context) error {
	rate := k.r.cfg.ConsumerRate
	if rate == 0 {
		return nil
	}
	for {
		ahead := k.start + int64(float64(k.got)*1e9/rate) - k.r.since()
		if ahead <= 0 {
			return nil
		}
		k.show()
		if ctx.Err() != nil {
			return errEnough
		}
		pause(min(time.Duration(ahead), 50*time.Millisecond))
		k.nowNanos = 0
	}
}

// record counts the equal latencies that have gathered.
func (k *consumer) record() {
	if k.same > 0 {
		k.r.deliveryTime.record(k.nowNanos-k.last, k.same)
		k.same = 0
	}
}

// show lets others see what has come.
func (k *consumer) show() {
	k.record()
	k.received.Store(k.got)
}

// beforeRead ends what one read has brought.
func (k *consumer) beforeRead() error {
	k.show()
	k.nowNanos = 0
	if k.due {
		return k.ackNow()
	}
	return nil
}

// poll asks for one message and acknowledges it.
func (k *consumer) poll(ctx context.Context) error {
	if ctx.Err() != nil {
		return errEnough
	}
	if err := k.c.Write(k.get); err != nil {
		return err
	}
	for {
		f, err := k.c.frame(k.beforeRead)
		if err != nil {
			return err
		}
		if f.Type != wire.FrameMethod {
			continue
		}
		switch wire.PeekMethod(f.Payload) {
		case wire.IDBasicGetEmpty:
			k.r.empty.Add(1)
			pause(emptyWait)
			return nil
		case wire.IDBasicGetOk:
			d := Delivery{Tag: binary.BigEndian.Uint64(f.Payload[4:])}
			if d.Body, err = k.c.content(k.beforeRead); err != nil {
				return err
			}
			return k.take(ctx, &d)
		case wire.IDConnectionClose, wire.IDChannelClose:
			return closed(f.Payload)
		}
	}
}

// emptyWait is how long a poller leaves a queue alone that was empty.
const emptyWait = time.Millisecond

// finish acknowledges what has been taken, so that it does not come again.
func (k *consumer) finish() error {
	if k.acks == 0 {
		return nil
	}
	return k.ackNow()
}

// subscribeDeaf starts a consumer that nobody reads.
func subscribeDeaf(c *Client, queue string) error {
	err := c.Call(&wire.BasicConsume{Queue: queue, ConsumerTag: "deaf", NoAck: true}, wire.IDBasicConsumeOk)
	if err != nil {
		return fmt.Errorf("a consumer that never reads: %w", err)
	}
	return nil
}
