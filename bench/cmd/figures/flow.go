package main

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/warrenmq/warren/internal/loadgen"
	"github.com/warrenmq/warren/internal/wire"
)

const writeBytes = 64 << 10 // of one write

// publisher publishes to one queue per channel, with a window of unconfirmed
// publishes on each.
type publisher struct {
	c       *loadgen.Client
	window  int
	one     [][]byte // by channel: the frames of one publish
	sent    []uint64
	settled []uint64
	total   uint64 // confirmed, over all channels
	limit   uint64 // publishes to send in all, 0 for no limit
	started uint64
	out     []byte
	dirty   []uint16 // channels with room
}

func queueName(channel int) string { return fmt.Sprint("bench-", channel) }

// newPublisher declares a queue for each channel and switches confirms on.
func newPublisher(p *process, channels, window, bodyBytes int) (*publisher, error) {
	c, err := p.dial(uint16(channels))
	if err != nil {
		return nil, err
	}
	f := &publisher{c: c, window: window, one: make([][]byte, channels+1), sent: make([]uint64, channels+1), settled: make([]uint64, channels+1)}
	body := make([]byte, bodyBytes)
	for i := 1; i <= channels; i++ {
		if err := c.CallOn(uint16(i), &wire.QueueDeclare{Queue: queueName(i), Durable: true}, wire.IDQueueDeclareOk); err != nil {
			return nil, err
		}
		if err := c.CallOn(uint16(i), &wire.ConfirmSelect{}, wire.IDConfirmSelectOk); err != nil {
			return nil, err
		}
		f.one[i] = loadgen.AppendPublish(nil, uint16(i), "", queueName(i), true, body)
		f.dirty = append(f.dirty, uint16(i))
	}
	return f, nil
}

// fill sends what the windows have room for.
func (f *publisher) fill() error {
	for _, ch := range f.dirty {
		for f.sent[ch]-f.settled[ch] < uint64(f.window) && (f.limit == 0 || f.started < f.limit) {
			f.out = append(f.out, f.one[ch]...)
			f.sent[ch]++
			f.started++
			if len(f.out) >= writeBytes {
				if err := f.flush(); err != nil {
					return err
				}
			}
		}
	}
	f.dirty = f.dirty[:0]
	return f.flush()
}

func (f *publisher) flush() error {
	if len(f.out) == 0 {
		return nil
	}
	err := f.c.Write(f.out)
	f.out = f.out[:0]
	return err
}

// until publishes until it has that many confirms, or the time is over, and
// returns how many came and how long it took.
func (f *publisher) until(confirms uint64, d time.Duration) (uint64, time.Duration, error) {
	f.limit = confirms
	start, before := time.Now(), f.total
	for f.total < confirms || confirms == 0 {
		k, err := f.c.NextConfirmation(f.fill)
		if err != nil {
			return 0, 0, err
		}
		if k.Refused {
			return 0, 0, fmt.Errorf("a publish was refused")
		}
		if k.Tag > f.settled[k.Channel] { // one by one they may come in any order
			n := uint64(1)
			if k.Multiple {
				n = k.Tag - f.settled[k.Channel]
			}
			f.settled[k.Channel] += n
			f.total += n
			f.dirty = append(f.dirty, k.Channel)
		}
		if d > 0 && time.Since(start) > d {
			break
		}
	}
	return f.total - before, time.Since(start), nil
}

// consumer takes from the queues of so many channels, all on one channel of its
// own, and acknowledges by ackEvery.
type consumer struct {
	c   *loadgen.Client
	got atomic.Uint64
	err chan error
}

func newConsumer(p *process, queues, prefetch, ackEvery int) (*consumer, error) {
	c, err := p.dial(1)
	if err != nil {
		return nil, err
	}
	if err := c.Call(&wire.BasicQos{PrefetchCount: uint16(prefetch)}, wire.IDBasicQosOk); err != nil {
		return nil, err
	}
	for i := 1; i <= queues; i++ {
		m := &wire.BasicConsume{Queue: queueName(i), ConsumerTag: fmt.Sprint("c", i), NoWait: true}
		if err := c.Write(wire.AppendMethodFrame(nil, 1, m)); err != nil {
			return nil, err
		}
	}
	k := &consumer{c: c, err: make(chan error, 1)}
	go func() {
		last := uint64(0)
		for {
			d, err := c.NextDelivery(nil)
			if err == nil && d.Tag-last >= uint64(ackEvery) {
				err = c.Ack(d.Tag)
				last = d.Tag
			}
			if err != nil {
				k.err <- err
				return
			}
			k.got.Add(1)
		}
	}()
	return k, nil
}

// wait waits until that many have come.
func (k *consumer) wait(n uint64) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for k.got.Load() < n {
		select {
		case err := <-k.err:
			return err
		case <-tick.C:
		}
	}
	return nil
}

func (k *consumer) close() { k.c.Close() }
