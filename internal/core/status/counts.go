package status

// Kind is something that happens to messages and is counted.
type Kind int

// What is counted. The names are those of RabbitMQ's message_stats.
const (
	Publish Kind = iota
	Confirm
	ReturnUnroutable
	DropUnroutable
	Deliver
	DeliverNoAck
	Get
	GetNoAck
	GetEmpty
	Redeliver
	Ack
	Kinds // how many there are
)

// Counts say how often each kind has happened. They only grow.
type Counts [Kinds]uint64

// Add adds the counts of another.
func (c *Counts) Add(other *Counts) {
	for i := range c {
		c[i] += other[i]
	}
}

// DeliverGet is everything that was handed out, pushed and polled.
func (c *Counts) DeliverGet() uint64 {
	return c[Deliver] + c[DeliverNoAck] + c[Get] + c[GetNoAck]
}

// Rates are changes per second of Counts.
type Rates [Kinds]float64

// DeliverGet is the rate of everything that was handed out.
func (r *Rates) DeliverGet() float64 { return r[Deliver] + r[DeliverNoAck] + r[Get] + r[GetNoAck] }

// Meter makes rates out of readings, without anything running between them: a
// rate is the average since an earlier reading, so it costs nothing as long as
// nobody looks. The zero value is ready.
type Meter struct {
	older, newer reading
}

type reading struct {
	atNanos int64
	values  []int64
}

// meterSpanNanos is how old a reading has to be before the next one replaces it:
// the interval at which RabbitMQ samples.
const meterSpanNanos = 5_000_000_000

// Read takes a reading and sets rates (of the same length) to the changes per
// second since the reading before the last one that was at least five seconds
// apart. They are 0 at the first reading.
func (m *Meter) Read(nowNanos int64, values []int64, rates []float64) {
	if m.newer.values == nil {
		m.newer = reading{nowNanos, append([]int64(nil), values...)}
		return
	}
	base := m.older
	if nowNanos-m.newer.atNanos >= meterSpanNanos {
		base = m.newer
		// The memory of the older one is free now.
		m.older, m.newer = m.newer, reading{nowNanos, append(m.older.values[:0], values...)}
	}
	if base.values == nil {
		base = m.newer
	}
	if span := float64(nowNanos-base.atNanos) / 1e9; span > 0 {
		for i := range rates {
			rates[i] = float64(values[i]-base.values[i]) / span
		}
	}
}
