package message

import "github.com/warrenmq/warren/internal/wire"

// Headers that tell a consumer how often a message has come back to its quorum
// queue (RabbitMQ documentation, "Quorum Queues", "Poison Message Handling").
const (
	deliveryCount = "x-delivery-count"
	acquiredCount = "x-acquired-count"
)

// WithCounts appends a copy of r that says how many of its deliveries have failed,
// unless none has, and how often it has come back in all.
func (r Record) WithCounts(dst []byte, failed, returned uint32) (Record, error) {
	p, err := r.Properties()
	if err != nil {
		return nil, err
	}
	p.Headers = p.Headers.Set(acquiredCount, int64(returned))
	if failed > 0 {
		p.Headers = p.Headers.Set(deliveryCount, int64(failed))
	}
	p.Flags |= wire.FlagHeaders
	return r.Rewrite(dst, string(r.Exchange()), string(r.Key()), &p), nil
}
