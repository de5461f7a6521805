package loadgen

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/warrenmq/warren/internal/wire"
)

// Bounds of a Config.
const (
	maxWorkers   = 20_000
	maxWindow    = 1_000_000
	maxBodyBytes = 512 << 20
	writeBytes   = 64 << 10 // of one write in batched mode
)

// stampBytes is what a body must have for latency: 8 bytes of time, 4 of the run.
const stampBytes = 12

// Broker is where the load goes.
type Broker struct {
	Dial  func(ctx context.Context) (net.Conn, error)
	Login Login
	PID   int // of the broker, 0 if it is not known; for processor time and memory
	// LoginTimeout bounds what follows Dial, up to the open channel; 0 means 10 s. A
	// broker that has no more descriptors accepts no connection, but the system does.
	LoginTimeout time.Duration
	// OwnThreads gives a publisher that is alone, and a consumer that is alone, a thread
	// of its own, where the system and the kind of connection allow it. They never give
	// their processors back to the runtime, so the process must have MaxLoops more of
	// them (GOMAXPROCS) than all the rest of it needs.
	OwnThreads bool
}

// MaxLoops is how many threads of its own a load may have: one per role.
const MaxLoops = 2

const defaultLoginTimeout = 10 * time.Second

// Config is a load. The zero value of most fields switches something off.
type Config struct {
	Producers int `json:"producers"`
	Consumers int `json:"consumers"`

	// Queues are declared durable, unless they are there already. Publishers and
	// consumers are dealt out to them in turns.
	Queues      []string   `json:"queues"`
	QueueArgs   wire.Table `json:"queue_arguments,omitempty"`
	AutoDelete  bool       `json:"auto_delete,omitempty"`
	Predeclared bool       `json:"predeclared,omitempty"` // declare, bind and delete nothing

	// Exchange "" is the default exchange, with the queue as routing key. To any
	// other one all queues are bound with RoutingKey, or with their name if it is "".
	Exchange     string `json:"exchange,omitempty"`
	ExchangeType string `json:"exchange_type,omitempty"`
	RoutingKey   string `json:"routing_key,omitempty"`

	BodyBytes  int    `json:"body_bytes"`
	Persistent bool   `json:"persistent"`
	Mandatory  bool   `json:"mandatory,omitempty"`
	Priorities int    `json:"priorities,omitempty"` // messages take priorities 0 to N-1 in turns
	Expiration string `json:"expiration_ms,omitempty"`

	Batched bool    `json:"batched"`           // many messages in one write
	Confirm int     `json:"confirm,omitempty"` // publishes without a confirm that each publisher may have, 0 for no confirms
	TxSize  int     `json:"tx_size,omitempty"` // publishes of a transaction
	Rate    float64 `json:"rate,omitempty"`    // publishes per second and publisher, 0 for no limit

	AutoAck      bool    `json:"auto_ack,omitempty"`
	AckEvery     int     `json:"ack_every,omitempty"` // deliveries of one ack
	Prefetch     int     `json:"prefetch,omitempty"`  // 0 for no limit
	Polling      bool    `json:"polling,omitempty"`   // basic.get instead of basic.consume
	ConsumerRate float64 `json:"consumer_rate,omitempty"`
	Deaf         int     `json:"deaf_consumers,omitempty"` // further consumers that never read

	Prefill      int           `json:"prefill,omitempty"` // messages put into the queues beforehand, in all
	Warmup       time.Duration `json:"warmup_ns,omitempty"`
	Duration     time.Duration `json:"duration_ns,omitempty"`   // 0 for no limit
	PublishCount int64         `json:"publish_count,omitempty"` // by each publisher, 0 for no limit
	ConsumeCount int64         `json:"consume_count,omitempty"` // by each consumer, 0 for no limit

	// Settle is how long to wait before the broker's memory is looked at once more,
	// while the messages are still there.
	Settle time.Duration `json:"settle_ns,omitempty"`

	Interval time.Duration `json:"-"` // between calls of Progress; 1 s if 0
	Progress func(Sample)  `json:"-"`

	stallEvery time.Duration // for tests: what counts as a second; 1 s if 0
}

// Check says what is wrong with a Config, and what to do.
func (c *Config) Check() error {
	limits := []struct {
		name     string
		got      int
		min, max int
	}{
		{"publishers", c.Producers, 0, maxWorkers},
		{"consumers", c.Consumers, 0, maxWorkers},
		{"consumers that never read", c.Deaf, 0, maxWorkers},
		{"bytes of a message", c.BodyBytes, 0, maxBodyBytes},
		{"unconfirmed publishes", c.Confirm, 0, maxWindow},
		{"publishes of a transaction", c.TxSize, 0, maxWindow},
		{"deliveries of one ack", c.AckEvery, 0, maxWindow},
		{"prefetch", c.Prefetch, 0, 65535},
		{"priorities", c.Priorities, 0, 256},
		{"messages put in beforehand", c.Prefill, 0, 1_000_000_000},
	}
	for _, l := range limits {
		if l.got < l.min || l.got > l.max {
			return fmt.Errorf("%d is no number of %s: it goes from %d to %d", l.got, l.name, l.min, l.max)
		}
	}
	acked := !c.AutoAck && c.Consumers > 0
	switch {
	case c.Producers+c.Consumers == 0:
		return fmt.Errorf("there is nothing to do without a publisher or a consumer")
	case len(c.Queues) == 0:
		return fmt.Errorf("there must be a queue")
	case c.Rate < 0 || c.ConsumerRate < 0:
		return fmt.Errorf("a rate cannot be negative")
	case c.Duration < 0 || c.Warmup < 0 || c.PublishCount < 0 || c.ConsumeCount < 0:
		return fmt.Errorf("a duration or a count cannot be negative")
	case c.Confirm > 0 && c.TxSize > 0:
		return fmt.Errorf("a channel has either confirms or transactions; give one of them")
	case acked && !c.Polling && c.Prefetch > 0 && c.AckEvery > c.Prefetch:
		return fmt.Errorf("with a prefetch of %d the %d deliveries of one ack never come together; raise the prefetch", c.Prefetch, c.AckEvery)
	case c.Producers == 0 && c.Prefill == 0 && c.Duration == 0 && c.ConsumeCount == 0 && !c.Predeclared && c.Deaf > 0:
		return fmt.Errorf("consumers that never read need publishers")
	}
	return nil
}

// ExchangeType "" means direct.
func (c *Config) exchangeType() string {
	if c.ExchangeType == "" {
		return "direct"
	}
	return c.ExchangeType
}

// key is the routing key of messages meant for a queue.
func (c *Config) key(queue string) string {
	if c.Exchange != "" && c.RoutingKey != "" {
		return c.RoutingKey
	}
	return queue
}

// copies is how many queues each publish reaches, as far as Run arranged it.
func (c *Config) copies() int64 {
	if c.Exchange == "" {
		return 1
	}
	if c.exchangeType() == "fanout" || c.RoutingKey != "" {
		return int64(len(c.Queues))
	}
	return 1
}
