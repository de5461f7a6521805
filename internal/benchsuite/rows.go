package benchsuite

import (
	"fmt"
	"time"

	"github.com/warrenmq/warren/internal/loadgen"
	"github.com/warrenmq/warren/internal/wire"
)

// metric is what a row compares.
type metric int

const (
	metricRate    metric = iota // messages per second, the lower of in and out
	metricIn                    // confirmed per second
	metricOut                   // delivered per second
	metricLatency               // to delivery
	metricOps                   // operations per second
	metricMemory                // resident memory per message or connection
	metricChange                // rate with against rate without something
	metricGrowth                // resident memory in the second half against the first
	metricEachWay               // the change of (in + out) / 2
)

// Row is one line of the matrix.
type Row struct {
	Name  string // for Options.Only and in file names
	Title string
	Loads []variant
	once  bool // one round: what it measures is only there once
	disk  bool // the disk is measured in turns with it
	kind  metric
}

// variant is one load of a row. Most rows have one, without a name; a row that
// compares has "without" and "with".
type variant struct {
	name  string
	load  func(run runParams) loadgen.Config
	churn *loadgen.Churn
	idle  int
}

// CountedLoad is one load of a row, for benchmarks that go on until a number of messages has
// passed.
type CountedLoad struct {
	Name string // "" where the row has no other
	v    *variant
}

// Counted is the loads of a row that a number of messages ends: not those that open
// connections, and not those with consumers that do not want all they could get.
func (r *Row) Counted() (list []CountedLoad) {
	for i := range r.Loads {
		l := CountedLoad{r.Loads[i].name, &r.Loads[i]}
		if l.v.load == nil {
			continue
		}
		if c := l.Config(1); c.ConsumerRate == 0 && c.Deaf == 0 {
			list = append(list, l)
		}
	}
	return list
}

// Config is the load with so many messages, or a few more so that each publisher has as
// many as the others.
func (l *CountedLoad) Config(messages int) loadgen.Config {
	c := l.v.load(runParams{duration: time.Second, scale: 1, queue: func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("q%d", i+1))
		}
		return list
	}})
	c.Duration, c.Warmup, c.Settle = 0, 0, 0
	if c.Prefill > 0 {
		c.Prefill = messages
	}
	if c.Producers == 0 {
		return c
	}
	c.PublishCount = int64((messages + c.Producers - 1) / c.Producers)
	return c
}

// runParams are what the length of a run depends on.
type runParams struct {
	duration time.Duration
	scale    float64 // of counts: 1, less for a try
	queue    func(n int) []string
}

// settle is how long memory is left alone before it is looked at.
func (p runParams) settle() time.Duration {
	if p.duration < time.Second { // a try
		return p.duration
	}
	return settleTime
}

func (p runParams) count(n int) int { return max(1, int(float64(n)*p.scale)) }

const (
	settleTime   = 5 * time.Second // caches, and what the collector has left, go in the meantime
	warmupShare  = 5               // of the duration: one fifth, at most maxWarmup
	maxWarmup    = 2 * time.Second
	million      = 1_000_000
	idleCount    = 10_000
	churnWorkers = 8
)

// Rows is the matrix, in the order in which it is measured: memory first, while a
// fresh broker has nothing left over.
func Rows() []Row {
	rows := append(memoryRows(), rateRows()...)
	rows = append(rows, batchedRows()...)
	rows = append(rows, featureRows()...)
	return append(rows, claimRows()...)
}

func one(load func(p runParams) loadgen.Config) []variant { return []variant{{load: load}} }

// flow is one publisher and one consumer for a duration.
func flow(p runParams, bodyBytes int, change func(c *loadgen.Config)) loadgen.Config {
	c := loadgen.Config{
		Producers: 1, Consumers: 1, Queues: p.queue(1), BodyBytes: bodyBytes,
		Duration: p.duration, Warmup: min(p.duration/warmupShare, maxWarmup),
	}
	change(&c)
	return c
}

// durable is a flow of persistent messages.
func durable(bodyBytes, window, ackEvery, prefetch int, more ...func(c *loadgen.Config)) []variant {
	return one(func(p runParams) loadgen.Config {
		return flow(p, bodyBytes, func(c *loadgen.Config) {
			c.Persistent, c.Confirm, c.AckEvery, c.Prefetch = true, window, ackEvery, prefetch
			for _, f := range more {
				f(c)
			}
		})
	})
}

func transient(bodyBytes int, batched bool) []variant {
	return one(func(p runParams) loadgen.Config {
		return flow(p, bodyBytes, func(c *loadgen.Config) { c.AutoAck, c.Batched = true, batched })
	})
}

func batched(c *loadgen.Config) { c.Batched = true }

func memoryRows() []Row {
	return []Row{
		{Name: "memory-1M", Title: "1 million persistent messages of 100 B queued: memory of each", kind: metricMemory, once: true,
			Loads: one(func(p runParams) loadgen.Config {
				return loadgen.Config{Producers: 1, Queues: p.queue(1), BodyBytes: 100, Persistent: true, Confirm: 5000, Batched: true,
					PublishCount: int64(p.count(million)), Settle: p.settle()}
			})},
		{Name: "idle-10000", Title: "10,000 idle connections with a channel: memory of each", kind: metricMemory, once: true, Loads: []variant{{idle: idleCount}}},
	}
}

func rateRows() []Row {
	return []Row{
		{Name: "transient-16B", Title: "16 B transient, auto-ack", Loads: transient(16, false), kind: metricOut},
		{Name: "transient-1KB", Title: "1 KB transient, auto-ack", Loads: transient(1000, false), kind: metricOut},
		{Name: "persistent-16B", Title: "16 B persistent, no confirms, ack by 100", Loads: durable(16, 0, 100, 1000), kind: metricOut},
		{Name: "confirm-1", Title: "1 KB persistent, confirmed one at a time", Loads: durable(1000, 1, 100, 1000), kind: metricIn, disk: true},
		{Name: "window-256", Title: "1 KB persistent, window 256, ack by 100", Loads: durable(1000, 256, 100, 1000)},
		{Name: "window-5000", Title: "1 KB persistent, window 5000, ack by 100", Loads: durable(1000, 5000, 100, 1000)},
		{Name: "window-1000-16B", Title: "16 B persistent, window 1000, ack by 100", Loads: durable(16, 1000, 100, 1000)},
		{Name: "window-100-64KB", Title: "64 KB persistent, window 100, ack by 10", Loads: durable(64_000, 100, 10, 100)},
		{Name: "fan-in-20", Title: "20 publishers of 1 KB persistent, each confirmed one at a time, to 1 queue",
			Loads: durable(1000, 1, 100, 1000, func(c *loadgen.Config) { c.Producers = 20 }), kind: metricIn},
		{Name: "queues-100", Title: "100 queues of 1 KB persistent, 100 publishers (window 10), 100 consumers (ack by 10)",
			Loads: one(func(p runParams) loadgen.Config {
				return flow(p, 1000, func(c *loadgen.Config) {
					c.Queues, c.Producers, c.Consumers = p.queue(100), 100, 100
					c.Persistent, c.Confirm, c.AckEvery, c.Prefetch = true, 10, 10, 100
				})
			})},
		{Name: "latency-5k", Title: "5,000/s of 1 KB persistent, window 100, ack by 10: latency to delivery",
			Loads: durable(1000, 100, 10, 1000, func(c *loadgen.Config) { c.Rate = 5000 }), kind: metricLatency},
	}
}

func batchedRows() []Row {
	return []Row{
		{Name: "batched-16B", Title: "batched: 16 B transient, auto-ack", Loads: transient(16, true), kind: metricOut},
		{Name: "batched-1KB", Title: "batched: 1 KB transient, auto-ack", Loads: transient(1000, true), kind: metricOut},
		{Name: "batched-window-5000", Title: "batched: 1 KB persistent, window 5000, ack by 100", Loads: durable(1000, 5000, 100, 10_000, batched)},
		{Name: "batched-window-1000-16B", Title: "batched: 16 B persistent, window 1000, ack by 100", Loads: durable(16, 1000, 100, 1000, batched)},
	}
}

func featureRows() []Row {
	return []Row{
		{Name: "fan-out-10", Title: "1 KB persistent, window 256, fanout to 10 queues with a consumer each, ack by 100", kind: metricOut,
			Loads: durable(1000, 256, 100, 1000, func(c *loadgen.Config) {
				// The name of the first queue is as good as any for the exchange.
				c.Exchange, c.ExchangeType, c.Consumers = c.Queues[0]+"-fanout", "fanout", 10
				for i := range 9 {
					c.Queues = append(c.Queues, fmt.Sprintf("%s-%d", c.Queues[0], i))
				}
			})},
		{Name: "priority", Title: "1 KB persistent with 10 priorities, window 256, ack by 100",
			Loads: durable(1000, 256, 100, 1000, func(c *loadgen.Config) {
				c.Priorities, c.QueueArgs = 10, wire.Table{{Key: "x-max-priority", Value: int64(9)}}
			})},
		{Name: "ttl", Title: "1 KB persistent in a queue with a time to live of 60 s, window 256, ack by 100",
			Loads: durable(1000, 256, 100, 1000, func(c *loadgen.Config) {
				c.QueueArgs = wire.Table{{Key: "x-message-ttl", Value: int64(60_000)}}
			})},
		{Name: "tx-10", Title: "20 publishers of 1 KB persistent in transactions of 10, to 1 queue, ack by 100", kind: metricIn,
			Loads: durable(1000, 0, 100, 1000, func(c *loadgen.Config) { c.TxSize, c.Producers = 10, 20 })},
		{Name: "get", Title: "1 KB persistent, taken by 10 clients with basic.get and acknowledged one at a time", kind: metricOut,
			Loads: one(func(p runParams) loadgen.Config {
				return loadgen.Config{Consumers: 10, Polling: true, AckEvery: 1, Queues: p.queue(1), BodyBytes: 1000, Persistent: true,
					Prefill: p.count(int(60_000 * max(1, p.duration.Seconds()))), Duration: p.duration}
			})},
		{Name: "churn-connections", Title: "8 clients that open and close connections with a channel", kind: metricOps,
			Loads: []variant{{churn: &loadgen.Churn{Workers: churnWorkers}}}},
		{Name: "churn-channels", Title: "8 clients that open and close channels", kind: metricOps,
			Loads: []variant{{churn: &loadgen.Churn{Workers: churnWorkers, Channels: true}}}},
	}
}

func claimRows() []Row {
	pair := func(base func(p runParams) loadgen.Config, change func(p runParams, c *loadgen.Config)) []variant {
		return []variant{{name: "without", load: base}, {name: "with", load: func(p runParams) loadgen.Config {
			c := base(p)
			change(p, &c)
			return c
		}}}
	}
	window256 := func(p runParams) loadgen.Config {
		return flow(p, 100, func(c *loadgen.Config) { c.Persistent, c.Confirm, c.AckEvery, c.Prefetch = true, 256, 100, 1000 })
	}
	return []Row{
		{Name: "backlog-1M", Title: "100 B persistent, window 256: mean of in and out with 1 million messages queued, against none", kind: metricEachWay,
			Loads: pair(window256, func(p runParams, c *loadgen.Config) { c.Prefill = p.count(million) })},
		{Name: "slow-consumer", Title: "1 KB persistent, 20,000/s in and 1,000/s out: most memory in the second half, against the first", kind: metricGrowth,
			Loads: durable(1000, 256, 1, 100, func(c *loadgen.Config) { c.Rate, c.ConsumerRate = 20_000, 1000 })},
		{Name: "deaf-consumer", Title: "1 KB persistent, window 256: in, with one more consumer that never reads, against without", kind: metricChange,
			Loads: pair(func(p runParams) loadgen.Config {
				return flow(p, 1000, func(c *loadgen.Config) { c.Persistent, c.Confirm, c.AckEvery, c.Prefetch = true, 256, 100, 1000 })
			}, func(_ runParams, c *loadgen.Config) { c.Deaf = 1 })},
		{Name: "publishers-4", Title: "batched: 1 KB persistent, window 1000: in, with 4 publishers to 4 queues, against 1 to 1", kind: metricChange,
			Loads: pair(func(p runParams) loadgen.Config {
				return flow(p, 1000, func(c *loadgen.Config) {
					c.Batched, c.Persistent, c.Confirm, c.AckEvery, c.Prefetch = true, true, 1000, 100, 1000
				})
			}, func(p runParams, c *loadgen.Config) { c.Queues, c.Producers, c.Consumers = p.queue(4), 4, 4 })},
	}
}
