package reliable

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// maxBatch bounds the messages of a batch.
const maxBatch = 10_000

// Batch says how messages are put together.
type Batch struct {
	// Size is how many messages a batch has at most, 1 to 10000.
	Size int
	// Wait is how long the first message of a batch waits for others. 0 means
	// 100 ms.
	Wait time.Duration
}

// ConsumeBatch is Consume for handlers that take several messages at once, such as
// for an INSERT of many rows. What handle returns decides about all of them; a
// *BatchError decides message by message: those that it does not name are done.
// Each message is retried, and becomes a dead letter, by itself.
//
// The option Concurrency is the number of batches at once. The Timeout counts from
// the first message's arrival. Options that are about one message at a time
// (PartitionBy, RetryPolicy.InProcess, InTx) are refused.
func ConsumeBatch[T any](ctx context.Context, c *Client, from Queue, b Batch, handle func(ctx context.Context, messages []*Message[T]) error, options ...ConsumeOption) (*Consumer, error) {
	config, err := consumeConfigOf(options)
	if err != nil {
		return nil, err
	}
	if b.Wait == 0 {
		b.Wait = 100 * time.Millisecond
	}
	switch {
	case handle == nil:
		return nil, errors.New("reliable: ConsumeBatch wants a handler, not nil")
	case b.Size < 1 || b.Size > maxBatch || b.Size*config.concurrency > maxConcurrency:
		return nil, fmt.Errorf("reliable: Batch.Size is %d with Concurrency %d: it has to be 1 to %d, and their product at most %d", b.Size, config.concurrency, maxBatch, maxConcurrency)
	case b.Wait < 0:
		return nil, fmt.Errorf("reliable: Batch.Wait is %v, it has to be positive", b.Wait)
	case config.partition != nil || config.retry.InProcess > 0 || config.once != nil && config.once.tx != nil:
		return nil, errors.New("reliable: PartitionBy, RetryPolicy.InProcess and InTx do not go with batches")
	}
	// Every message of a batch has a handler that waits for the batch's end.
	handlers := b.Size * config.concurrency
	options = append(options[:len(options):len(options)], Concurrency(handlers), func(c *consumeConfig) {
		c.prefetch = max(c.prefetch, min(2*handlers, maxPrefetch))
	})
	g := &gatherer[T]{codec: c.config.Codec, batch: b, handle: handle}
	return consume(ctx, c, from, g.add, options)
}

// gatherer puts messages together. The goroutine of a batch's first message waits
// for the others and calls the handler; theirs wait for it.
type gatherer[T any] struct {
	codec  Codec
	batch  Batch
	handle func(context.Context, []*Message[T]) error

	mu   sync.Mutex
	open *gathered[T] // the batch that still takes messages, nil if there is none
}

// gathered is one batch.
type gathered[T any] struct {
	messages []*Message[T]
	full     chan struct{} // closed when it takes no more
	done     chan struct{} // closed after errs and all are set
	all      error         // of every message
	errs     map[int]error // of single messages
}

func (g *gatherer[T]) add(ctx context.Context, d *Delivery) error {
	m := &Message[T]{Delivery: d}
	if err := decode(g.codec, d.ContentType, d.Raw, &m.Body); err != nil {
		return err
	}
	g.mu.Lock()
	b := g.open
	first := b == nil
	if first {
		b = &gathered[T]{full: make(chan struct{}), done: make(chan struct{})}
		g.open = b
	}
	position := len(b.messages)
	b.messages = append(b.messages, m)
	if len(b.messages) == g.batch.Size {
		g.open = nil
		close(b.full)
	}
	g.mu.Unlock()
	if first {
		g.lead(ctx, b)
	}
	<-b.done
	if b.all != nil {
		return b.all
	}
	return b.errs[position]
}

// lead waits until the batch is full or its time is over, and handles it.
func (g *gatherer[T]) lead(ctx context.Context, b *gathered[T]) {
	timer := time.NewTimer(g.batch.Wait)
	defer timer.Stop()
	select {
	case <-b.full:
	case <-timer.C:
	case <-ctx.Done():
	}
	g.mu.Lock()
	if g.open == b {
		g.open = nil
	}
	g.mu.Unlock()
	defer close(b.done)
	defer func() {
		if v := recover(); v != nil {
			b.all = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	err := g.handle(ctx, b.messages)
	if single, ok := errors.AsType[*BatchError](err); ok {
		b.errs = single.Errs
		return
	}
	b.all = err
}
