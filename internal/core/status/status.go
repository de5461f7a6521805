package status

import (
	"time"

	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/core/topology"
	"github.com/warrenmq/warren/internal/wire"
)

// Handle is a queue, connection or channel that can be asked how it is. Name
// needs no lock, Status takes the object's own.
type Handle[S any] interface {
	Name() string
	Status() S
}

// ClientHandle is the handle of something that a client has opened.
type ClientHandle[S any] interface {
	Handle[S]
	Client() Client
}

// Queue is a queue at one instant. Messages that are on their way to a
// dead-letter exchange count as unacknowledged.
type Queue struct {
	Def                      *topology.Queue
	VHost                    string
	Ready, Unacked           int
	ReadyBytes, UnackedBytes int64 // bodies
	// Dying are dead letters of a queue that keeps them until every target has them;
	// another one's are among Unacked.
	Dying      int
	DyingBytes int64
	// Delayed are messages that have come back and wait to be ready again.
	Delayed      int
	DelayedBytes int64
	Consumers    int
	// Transient counts the messages that came in since the start and that a restart
	// would have lost.
	Transient uint64
	// Willing tells whether a consumer would take a message now, or there is none
	// that could.
	Willing bool
	// ExclusiveTag and ActiveTag name the exclusive, or single active, consumer.
	ExclusiveTag, ActiveTag string
	Counts                  Counts
	Rates                   Rates
	ReadyRate, UnackedRate  float64 // per second
}

// Client is who stands behind a connection, channel or consumer.
type Client struct {
	ID         uint64 // of the connection
	Connection string // its name: "peer:port -> server:port"
	PeerHost   string
	PeerPort   int
	User       string
	VHost      string
}

// Connection is a client connection at one instant.
type Connection struct {
	Client
	Host             string // our end
	Port             int
	Properties       wire.Table // as the client presented itself
	Mechanism        string     // of its login
	FrameMax         uint32     // bytes, as negotiated
	ChannelMax       uint16
	HeartbeatSeconds uint16
	Opened           time.Time
	Channels         int
	Blocked          bool  // an alarm, or its own output, holds its reader
	PendingBytes     int64 // output that is not yet written

	Reads, ReadBytes, Writes, WrittenBytes uint64
	ReadRate, WriteRate                    float64 // bytes per second
}

// Channel is a channel at one instant.
type Channel struct {
	Client
	Number      uint16
	Consumers   int
	Unacked     int
	Unconfirmed uint64
	Confirming  bool
	Tx          bool
	Prefetch    int // of consumers that come next, 0 for none
	// GlobalPrefetch bounds the whole channel (qos global), 0 for none.
	GlobalPrefetch int
	Counts         Counts
	Rates          Rates
}

// Consumer is a subscription at one instant.
type Consumer struct {
	Client
	Channel   uint16
	Queue     string
	Tag       string
	NoAck     bool
	Exclusive bool
	Prefetch  int
	Args      wire.Table
	// Single: the queue has a single active consumer, and Active tells whether it
	// is this one. Other consumers are all active.
	Single, Active bool
}

// Bindings says which bindings of a virtual host are meant. Empty fields that
// end in All are not looked at.
type Bindings struct {
	// From limits them to a source.
	From    string
	FromAll bool
	// To limits them to a destination.
	To     string
	ToKind exchange.DestKind
	ToAll  bool
}

// VHost sums up a virtual host.
type VHost struct {
	Name                            string
	Queues, Exchanges, Bindings     int
	Connections, Channels           int
	Consumers                       int
	Ready, Unacked                  int
	Counts                          Counts
	Rates                           Rates
	ReadyRate, UnackedRate          float64
	ReadBytes, WrittenBytes         uint64
	ReadBytesRate, WrittenBytesRate float64
}

// Add adds the numbers of another virtual host.
func (v *VHost) Add(w VHost) {
	v.Queues += w.Queues
	v.Exchanges += w.Exchanges
	v.Bindings += w.Bindings
	v.Connections += w.Connections
	v.Channels += w.Channels
	v.Consumers += w.Consumers
	v.Ready += w.Ready
	v.Unacked += w.Unacked
	v.Counts.Add(&w.Counts)
	for i := range v.Rates {
		v.Rates[i] += w.Rates[i]
	}
	v.ReadyRate += w.ReadyRate
	v.UnackedRate += w.UnackedRate
	v.ReadBytes += w.ReadBytes
	v.WrittenBytes += w.WrittenBytes
	v.ReadBytesRate += w.ReadBytesRate
	v.WrittenBytesRate += w.WrittenBytesRate
}

// Churn counts what came and went.
type Churn struct {
	ConnectionsOpened, ConnectionsClosed         uint64
	ChannelsOpened, ChannelsClosed               uint64
	QueuesDeclared, QueuesCreated, QueuesDeleted uint64
}

// Node is how the broker is as a whole.
type Node struct {
	Started          time.Time
	MemoryAlarm      bool
	DiskAlarm        bool
	BodyBytes        int64 // memory that message bodies use
	MemoryLimitBytes int64 // of bodies; 0 for none
	DiskFree         uint64
	DiskFreeLimit    uint64
	Dir              string // the data directory, "" for none
	Failed           error  // why nothing is confirmed any more
	Churn            Churn
}

// Listener is an address on which the broker accepts connections.
type Listener struct {
	Protocol string // amqp, http
	Host     string
	Port     int
}

// Disposal says what becomes of messages that were only looked at.
type Disposal uint8

const (
	// PutBack returns them to their places.
	PutBack Disposal = iota
	// Take ends them, as an acknowledgement does.
	Take
	// Reject ends them, or dead-letters them where the queue says so.
	Reject
)

// Message is one that was polled. Its bytes are good until the call that gave it
// returns.
type Message struct {
	Exchange, Key string
	Redelivered   bool
	Left          int // ready messages behind it
	Properties    wire.Properties
	Body          []byte
}

// Publication is a message to publish.
type Publication struct {
	Exchange, Key string
	Properties    wire.Properties
	Body          []byte
}
