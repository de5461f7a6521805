package topology

import (
	"math"

	"github.com/warrenmq/warren/internal/wire"
)

// QueueType is the kind of a queue, from x-queue-type.
type QueueType uint8

const (
	// Classic is the default type.
	Classic QueueType = iota
	// Quorum queues are durable and count deliveries.
	Quorum
)

// String is the type's name in x-queue-type.
func (t QueueType) String() string {
	if t == Quorum {
		return "quorum"
	}
	return "classic"
}

// Overflow says what happens to a message that a full queue gets.
type Overflow uint8

const (
	// DropHead drops (or dead-letters) the oldest message.
	DropHead Overflow = iota
	// RejectPublish refuses the new message.
	RejectPublish
	// RejectPublishDLX refuses the new message and dead-letters it.
	RejectPublishDLX
)

// String is the mode's name in x-overflow.
func (o Overflow) String() string {
	switch o {
	case RejectPublish:
		return "reject-publish"
	case RejectPublishDLX:
		return "reject-publish-dlx"
	}
	return "drop-head"
}

// None is the value of a limit that is not set.
const None = -1

// defaultDeliveryLimit is what a quorum queue gets that names none (since 4.0).
const defaultDeliveryLimit = 20

// QueueConfig is the meaning of a queue's arguments.
type QueueConfig struct {
	Type           QueueType
	MessageTTLMs   int64 // x-message-ttl, 0..315360000000, None
	ExpiresMs      int64 // x-expires, 1..315360000000, None
	MaxLength      int64 // x-max-length, ready messages, None
	MaxLengthBytes int64 // x-max-length-bytes, ready bodies, None
	Overflow       Overflow

	DLX             string // x-dead-letter-exchange; may be empty, the default exchange
	HasDLX          bool
	DLRoutingKey    string // x-dead-letter-routing-key
	HasDLRoutingKey bool
	AtLeastOnceDLX  bool // x-dead-letter-strategy at-least-once (quorum)

	MaxPriority          int // x-max-priority 0..255, None
	DeliveryLimit        int // failed deliveries before a message is dead-lettered; None: no limit
	SingleActiveConsumer bool

	// RetryFailed and RetryReturned say what is delayed when it comes back
	// (x-delayed-retry-type: failed, returned or all), RetryMinMs and RetryMaxMs for
	// how long. Values that mean nothing turn it off, as in RabbitMQ.
	RetryFailed, RetryReturned bool
	RetryMinMs, RetryMaxMs     int64
}

// AtLeastOnce tells whether a dead letter stays until every target has it. As in
// RabbitMQ that takes a queue that refuses what is over its limits; another one
// falls back to at most once.
func (c *QueueConfig) AtLeastOnce() bool {
	return c.Type == Quorum && c.AtLeastOnceDLX && c.HasDLX && c.Overflow == RejectPublish
}

// parseConfig reads arguments that checkQueueArgs has accepted.
func parseConfig(args wire.Table) QueueConfig {
	c := QueueConfig{
		Type:           queueTypeOf(args),
		MessageTTLMs:   intArg(args, "x-message-ttl"),
		ExpiresMs:      intArg(args, "x-expires"),
		MaxLength:      intArg(args, "x-max-length"),
		MaxLengthBytes: intArg(args, "x-max-length-bytes"),
		MaxPriority:    int(intArg(args, "x-max-priority")),
		DeliveryLimit:  None,
	}
	c.DLX, c.HasDLX = stringArg(args, "x-dead-letter-exchange")
	c.DLRoutingKey, c.HasDLRoutingKey = stringArg(args, "x-dead-letter-routing-key")
	switch mode, _ := stringArg(args, "x-overflow"); {
	case mode == "reject-publish":
		c.Overflow = RejectPublish
	case mode == "reject-publish-dlx" && c.Type == Classic:
		// A quorum queue does not know this mode and drops the head instead.
		c.Overflow = RejectPublishDLX
	}
	strategy, _ := stringArg(args, "x-dead-letter-strategy")
	c.AtLeastOnceDLX = strategy == "at-least-once"
	if v, ok := args.Get("x-single-active-consumer"); ok {
		c.SingleActiveConsumer, _ = v.(bool)
	}
	if c.Type == Quorum {
		c.DeliveryLimit = defaultDeliveryLimit
		if v, ok := args.Get("x-delivery-limit"); ok {
			if n, isInt := intValue(v); isInt {
				c.DeliveryLimit = int(max(min(n, math.MaxInt32), None))
			}
		}
	}
	if c.Type == Quorum {
		c.parseRetry(args)
	}
	return c
}

func (c *QueueConfig) parseRetry(args wire.Table) {
	least, most := intArg(args, "x-delayed-retry-min"), intArg(args, "x-delayed-retry-max")
	if _, ok := args.Get("x-delayed-retry-max"); !ok {
		most = least
	}
	if least <= 0 || most <= 0 {
		return
	}
	kind, _ := stringArg(args, "x-delayed-retry-type")
	c.RetryFailed = kind == "failed" || kind == "all"
	c.RetryReturned = kind == "returned" || kind == "all"
	c.RetryMinMs, c.RetryMaxMs = min(least, maxExpiryMs), min(most, maxExpiryMs)
}

func intArg(args wire.Table, key string) int64 {
	if v, ok := args.Get(key); ok {
		if n, isInt := intValue(v); isInt {
			return n
		}
	}
	return None
}

func stringArg(args wire.Table, key string) (string, bool) {
	v, _ := args.Get(key)
	s, ok := v.(string)
	return s, ok
}

// intValue is the number in a field of one of the integer types.
func intValue(v any) (int64, bool) {
	switch v := v.(type) {
	case int8:
		return int64(v), true
	case uint8:
		return int64(v), true
	case int16:
		return int64(v), true
	case uint16:
		return int64(v), true
	case int32:
		return int64(v), true
	case uint32:
		return int64(v), true
	case int64:
		return v, true
	}
	return 0, false
}
