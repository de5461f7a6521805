package reliable

import (
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// server is what the broker says of itself, and what follows from it.
type server struct {
	product      string
	major, minor int
}

func serverOf(properties amqp.Table) server {
	s := server{}
	s.product, _ = properties["product"].(string)
	version, _ := properties["version"].(string)
	parts := strings.SplitN(version, ".", 3)
	if len(parts) >= 2 {
		s.major, _ = strconv.Atoi(parts[0]) // 0 for what is no number: an unknown version
		s.minor, _ = strconv.Atoi(parts[1])
	}
	return s
}

const (
	rabbitMQ = "RabbitMQ"
	warrenMQ = "WarrenMQ"
)

func (s server) rabbitFrom(major, minor int) bool {
	return s.product == rabbitMQ && (s.major > major || s.major == major && s.minor >= minor)
}

// queueType is the type that Auto means. Quorum queues have time to live and
// at-least-once dead-lettering from RabbitMQ 3.10 on.
func (s server) queueType() QueueType {
	if s.product == warrenMQ || s.rabbitFrom(3, 10) {
		return Quorum
	}
	return Classic
}

// unlimitedArgument says that a quorum queue has a delivery limit unless it is
// declared with -1; older servers have none and refuse the number.
func (s server) unlimitedArgument() bool { return s.product == warrenMQ || s.rabbitFrom(4, 0) }

// settleTime is how long to keep a channel open after its last acknowledgement.
// Observed on RabbitMQ 3.10: if the channel of a quorum queue is closed right after
// many acknowledgements, some of the messages come again that were done; after this
// time none did. Nothing in the protocol tells when the server has worked them off.
func (s server) settleTime() time.Duration {
	if s.product == rabbitMQ {
		return 200 * time.Millisecond
	}
	return 0
}

// requeueCounts says that a message given back to a quorum queue by basic.nack
// counts as delivered, and so comes closer to its delivery limit.
func (s server) requeueCounts() bool { return !s.rabbitFrom(4, 3) }
