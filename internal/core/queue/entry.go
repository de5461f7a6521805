package queue

import "math"

// ID is a queue's number in its broker. It is never reused.
type ID uint64

// Time is a point in time in nanoseconds since the Unix epoch, passed in by the
// host once per run.
type Time int64

// Never is the deadline of what does not expire.
const Never Time = math.MaxInt64

// Seq names one message of a queue: priority level in the top 8 bits, position
// within the level below. Positions grow by one per message of that level.
type Seq uint64

func makeSeq(level int, pos uint64) Seq { return Seq(uint64(level)<<56 | pos) }
func (s Seq) level() int                { return int(s >> 56) }
func (s Seq) pos() uint64               { return uint64(s) & (1<<56 - 1) }

// Split is the priority level and the position in it.
func (s Seq) Split() (level int, pos uint64) { return s.level(), s.pos() }

// Entry is what the queue keeps of a message: 16 bytes, no pointer.
type Entry struct {
	Ref       uint64 // where the host keeps the body; opaque to the machine
	BodyBytes uint32
	Flags     Flags
}

// unkept tells whether a message keeps its page from becoming cold.
func (f Flags) unkept() bool { return f&(Persistent|Pinned) != Persistent }

// Flags are per-message bits.
type Flags uint32

const (
	// Persistent messages on a durable queue survive a restart and are logged.
	Persistent Flags = 1 << iota
	// Redelivered messages were handed out before.
	Redelivered
	// Pinned messages stay in the index in memory, because the host has to see the
	// entry when the message goes.
	Pinned
	// unsettled messages were out when the broker ended; while a queue is rebuilt.
	unsettled
	// parkedFlag: a dead letter that waits for another attempt, or a message that
	// is delayed.
	parkedFlag
	// HostFlag is the first of the bits that the machine keeps for its host.
	HostFlag Flags = 1 << 8
)

// Message is an input of Enqueue.
type Message struct {
	Entry
	Priority uint8
	// TTLMillis is the message's own time to live, or -1 for none.
	TTLMillis int64
}

// Overflow is what a full queue does with one message more.
type Overflow uint8

const (
	DropHead Overflow = iota
	RejectPublish
	RejectPublishDLX
)

// Config is what a queue was declared with, as the machine needs it.
type Config struct {
	Durable        bool
	AutoDelete     bool
	MessageTTLMs   int64 // -1 none
	ExpiresMs      int64 // -1 none: delete after this long without use
	MaxLength      int64 // -1 none; ready messages
	MaxLengthBytes int64 // -1 none; bodies of ready messages
	Overflow       Overflow
	HasDLX         bool
	// AtLeastOnce: a dead letter stays until every target has it; see Park. It
	// means nothing without HasDLX, and needs an Overflow that refuses.
	AtLeastOnce bool
	MaxPriority int // -1 none, else 0..255: levels 0..MaxPriority
	// DeliveryLimit is how many failed deliveries a message survives; -1 any.
	DeliveryLimit int64
	// Retry delays what comes back.
	Retry RetryDelay
	// CountCrashes: what is out when the broker ends has failed.
	CountCrashes bool
	// SingleActive: of several consumers only the longest-serving one gets
	// messages.
	SingleActive bool
}

// NoLimits is the configuration of a plain transient queue.
func NoLimits() Config {
	return Config{MessageTTLMs: -1, ExpiresMs: -1, MaxLength: -1, MaxLengthBytes: -1, MaxPriority: -1, DeliveryLimit: -1}
}
