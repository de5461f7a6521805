package loadgen

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/warrenmq/warren/internal/wire"
)

// publisher is one connection that publishes. Either write runs in one goroutine
// and read in another, or drive does both in one.
type publisher struct {
	r     *runner
	c     *Client
	rate  float64
	limit int64         // publishes, 0 for no limit
	phase time.Duration // its place in the schedule, so that publishers do not all write at once

	// Of who writes only.
	start       int64 // of the schedule
	n           int64 // publishes so far
	uncommitted int64 // of them, in a transaction

	block  []byte // the frames of several publishes, all of one size
	one    int    // bytes of one
	per    int    // publishes in block
	next   int    // place in block of the following publish
	bodyAt int    // of the body in its frames; 0 if it has no room for a stamp
	commit []byte
	out    []byte // a batch with its commit

	window int64   // publishes that may be open, 0 for no limit
	open   []int64 // when each was to be sent, by number modulo len; 0 once confirmed
	mask   int64

	sent    atomic.Int64 // set before the write
	settled atomic.Int64
	low     atomic.Int64 // all up to this one are settled
	waiting atomic.Bool
	room    chan struct{}
	done    atomic.Bool // has sent all it should

	// Of who reads only.
	nowNanos int64
	settles  int64
	lowest   int64
}

func newPublisher(r *runner, c *Client, index int, queue string, confirm, tx int) *publisher {
	cfg := r.cfg
	p := &publisher{r: r, c: c, rate: cfg.Rate, limit: cfg.PublishCount, room: make(chan struct{}, 1)}
	if cfg.Rate > 0 && cfg.Producers > 0 {
		p.phase = time.Duration(float64(index) / float64(cfg.Producers) / cfg.Rate * float64(time.Second))
	}
	p.build(queue)
	p.window = int64(max(confirm, tx))
	if tx > 0 {
		p.commit = wire.AppendMethodFrame(nil, channelNumber, &wire.TxCommit{})
	}
	if p.window > 0 {
		// Confirms may come in any order, so the oldest one that is open may be
		// further back than the window is long.
		p.open = make([]int64, 1<<bits.Len64(uint64(p.window*4)))
		p.mask = int64(len(p.open) - 1)
	}
	return p
}

// build makes the frames.
func (p *publisher) build(queue string) {
	cfg := p.r.cfg
	m := &wire.BasicPublish{Exchange: cfg.Exchange, RoutingKey: cfg.key(queue), Mandatory: cfg.Mandatory}
	body := make([]byte, cfg.BodyBytes)
	props := wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: 1}
	if cfg.Persistent {
		props.DeliveryMode = 2
	}
	if cfg.Expiration != "" {
		props.Flags |= wire.FlagExpiration
		props.Expiration = cfg.Expiration
	}
	if cfg.Priorities > 0 {
		props.Flags |= wire.FlagPriority
	}
	if cfg.BodyBytes >= stampBytes {
		p.bodyAt = len(wire.AppendContent(nil, channelNumber, m, &props, nil, p.c.frameMax)) + wire.FrameHeaderSize
		binary.BigEndian.PutUint32(body[8:], p.r.id)
	}
	first := wire.AppendContent(nil, channelNumber, m, &props, body, p.c.frameMax)
	p.one = len(first)
	p.per = max(1, writeBytes/p.one)
	if n := cfg.Priorities; n > 0 {
		p.per = (p.per + n - 1) / n * n
	}
	p.block = make([]byte, 0, p.per*p.one)
	for i := range p.per {
		if cfg.Priorities > 0 {
			props.Priority = uint8(i % cfg.Priorities)
		}
		p.block = wire.AppendContent(p.block, channelNumber, m, &props, body, p.c.frameMax)
	}
}

// prepare switches the channel to confirms or transactions.
func (p *publisher) prepare() error {
	switch {
	case p.commit != nil:
		return p.c.Call(&wire.TxSelect{}, wire.IDTxSelectOk)
	case p.window > 0:
		return p.c.Call(&wire.ConfirmSelect{}, wire.IDConfirmSelectOk)
	}
	return nil
}

// begin starts the schedule.
func (p *publisher) begin() { p.start = p.r.since() + int64(p.phase) }

// write publishes until it has published enough, ctx ends, or the connection
// breaks.
func (p *publisher) write(ctx context.Context) error {
	defer p.done.Store(true)
	p.begin()
	if p.rate > 0 {
		precise()
	}
	for ctx.Err() == nil {
		frames, until := p.step()
		switch {
		case frames != nil:
			if err := p.c.Write(frames); err != nil {
				return err
			}
		case p.done.Load():
			return nil
		case until != never:
			p.sleepUntil(until)
		case !p.wait(ctx):
			return nil
		}
	}
	return nil
}

// never is a time that does not come.
const never = math.MaxInt64

// step is what to write next: a publish, in batched mode as many as may go, or a
// commit. They count as sent. If there is nothing, until says when that changes;
// never means with a confirm, or not at all once done is set.
func (p *publisher) step() (frames []byte, until int64) {
	ended := p.limit > 0 && p.n >= p.limit
	if p.uncommitted > 0 && (ended || p.uncommitted == p.window) { // the last transaction may be a short one
		p.uncommitted = 0
		return p.commit, 0
	}
	if ended {
		p.done.Store(true)
		return nil, never
	}
	count := int64(p.per - p.next)
	if p.limit > 0 {
		count = min(count, p.limit-p.n)
	}
	if p.rate > 0 {
		due := p.due() - p.n
		if due <= 0 {
			return nil, p.start + p.intended(p.n)
		}
		count = min(count, due)
	}
	if p.window > 0 {
		free := p.free()
		if free <= 0 {
			return nil, never
		}
		count = min(count, free)
	}
	if !p.r.cfg.Batched {
		count = 1
	}
	if p.commit != nil {
		count = min(count, p.window-p.uncommitted)
	}
	return p.stamp(count), 0
}

// intended is when publish n is to be sent, in nanoseconds after the start.
func (p *publisher) intended(n int64) int64 { return int64(float64(n) * 1e9 / p.rate) }

// due is how many publishes should have been sent by now.
func (p *publisher) due() int64 {
	elapsed := p.r.since() - p.start
	if elapsed < 0 {
		return 0
	}
	return int64(float64(elapsed)*p.rate/1e9) + 1
}

// sleepUntil waits, but never so long that the end of a run goes unnoticed.
func (p *publisher) sleepUntil(at int64) {
	pause(min(time.Duration(at-p.r.since()), 50*time.Millisecond))
}

// stamp stamps count publishes and registers them; what it returns is to be
// written before the following call.
func (p *publisher) stamp(count int64) []byte {
	at := p.r.since()
	batch := p.block[p.next*p.one : (p.next+int(count))*p.one]
	for i := range count {
		if p.rate > 0 {
			at = p.start + p.intended(p.n+i)
		}
		if p.bodyAt > 0 {
			binary.BigEndian.PutUint64(batch[int(i)*p.one+p.bodyAt:], uint64(at))
		}
		if p.open != nil {
			p.open[(p.n+i+1)&p.mask] = max(at, 1)
		}
	}
	p.next = (p.next + int(count)) % p.per
	p.n += count
	p.sent.Store(p.n)
	if p.commit == nil {
		return batch
	}
	p.uncommitted += count
	if p.uncommitted == p.window && p.r.cfg.Batched {
		p.uncommitted = 0
		p.out = append(append(p.out[:0], batch...), p.commit...)
		return p.out
	}
	return batch
}

// free is how many publishes the window has room for.
func (p *publisher) free() int64 {
	if p.commit != nil {
		// A transaction begins when the one before is committed.
		if p.uncommitted == 0 && p.settled.Load() < p.n {
			return 0
		}
		return p.window
	}
	return min(p.window-(p.n-p.settled.Load()), int64(len(p.open))-(p.n-p.low.Load()))
}

// wait returns when there is room, false when ctx has ended.
func (p *publisher) wait(ctx context.Context) bool {
	p.waiting.Store(true)
	if p.free() > 0 { // a confirm may have come before it could see us wait
		p.waiting.Store(false)
		return true
	}
	select {
	case <-p.room:
		return true
	case <-ctx.Done():
		return false
	}
}

// read takes in confirms until the connection ends or a read fails.
func (p *publisher) read() error {
	for {
		f, err := p.c.frame(p.beforeRead)
		if err != nil {
			return err
		}
		if f.Type != wire.FrameMethod {
			continue
		}
		switch wire.PeekMethod(f.Payload) {
		case wire.IDBasicAck:
			tag, multiple, _ := wire.ScanAck(f.Payload)
			err = p.settle(int64(tag), multiple, true)
		case wire.IDBasicNack:
			tag := binary.BigEndian.Uint64(f.Payload[4:])
			err = p.settle(int64(tag), f.Payload[12]&1 != 0, false)
		case wire.IDTxCommitOk:
			err = p.settle(p.sent.Load(), true, true)
		case wire.IDBasicReturn:
			p.r.returned.Add(1)
		case wire.IDConnectionBlocked:
			p.r.blocked.Add(1)
		case wire.IDConnectionUnblocked:
			p.r.blocked.Add(-1)
		case wire.IDConnectionClose, wire.IDChannelClose:
			err = closed(f.Payload)
		}
		if err != nil {
			return err
		}
	}
}

// beforeRead shows the writer and the watch what the last read has brought.
func (p *publisher) beforeRead() error {
	p.nowNanos = 0
	if p.settled.Load() == p.settles {
		return nil
	}
	p.low.Store(p.lowest)
	p.settled.Store(p.settles)
	if p.waiting.Swap(false) {
		select {
		case p.room <- struct{}{}:
		default: // it has not taken the last one yet
		}
	}
	return nil
}

// settle closes publishes. One that is confirmed twice, or was never made, is an
// error: a broker that does so cannot be measured.
func (p *publisher) settle(tag int64, multiple, good bool) error {
	if p.nowNanos == 0 {
		p.nowNanos = p.r.since()
	}
	if tag < 1 || tag > p.sent.Load() || p.open == nil {
		return fmt.Errorf("the broker confirmed publish %d of %d", tag, p.sent.Load())
	}
	first := tag
	if multiple {
		first = p.lowest + 1
	} else if tag <= p.lowest || p.open[tag&p.mask] == 0 {
		return fmt.Errorf("the broker confirmed publish %d twice", tag)
	}
	var n, same, last int64
	for t := first; t <= tag; t++ {
		at := p.open[t&p.mask]
		if at == 0 {
			continue
		}
		p.open[t&p.mask] = 0
		n++
		if at != last && same > 0 {
			p.r.confirmTime.record(p.nowNanos-last, same)
			same = 0
		}
		last = at
		same++
	}
	if same > 0 {
		p.r.confirmTime.record(p.nowNanos-last, same)
	}
	p.settles += n
	if !good {
		p.r.refused.Add(n)
	}
	for sent := p.sent.Load(); p.lowest < sent && p.open[(p.lowest+1)&p.mask] == 0; {
		p.lowest++
	}
	return nil
}

// finished says whether all that it should publish is published and confirmed.
func (p *publisher) finished() bool {
	return p.done.Load() && (p.window == 0 || p.settled.Load() >= p.sent.Load())
}
