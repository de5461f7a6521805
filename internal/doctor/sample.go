package doctor

import (
	"context"
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/internal/mgmtclient"
)

const (
	// MaxSample is the most messages of one queue that Sample takes.
	MaxSample = 100
	// maxSampledQueues bounds how many queues are sampled.
	maxSampledQueues = 200
)

// Sample takes at most n messages from the head of each queue that lasts and gives
// them back. That marks them redelivered, and counts as a failed delivery on quorum
// queues of RabbitMQ before 4.3 and of WarrenMQ: a message that is close to its
// delivery limit can become a dead letter. Delay levels are left alone.
func Sample(ctx context.Context, c *mgmtclient.Client, l *Look, o *Options, n int) error {
	o.Sampled, o.Samples = true, map[Place][]mgmtclient.Message{}
	x := newExamination(l, nil, *o)
	var err error
	left := maxSampledQueues
	x.work(func(q *mgmtclient.Queue) {
		if err != nil || q.Ready == 0 || left == 0 {
			return
		}
		left--
		o.Samples[placeOf(q)], err = c.Peek(ctx, q.VHost, q.Name, min(n, MaxSample))
	})
	return err
}

// sampleOver does the same over AMQP.
func sampleOver(ch *amqp.Channel, queue string, n int) (list []mgmtclient.Message, err error) {
	var last uint64
	for range min(n, MaxSample) {
		d, ok, err := ch.Get(queue, false)
		if err != nil {
			return nil, fmt.Errorf("queue %s: %w", queue, err)
		}
		if !ok {
			break
		}
		last = d.DeliveryTag
		list = append(list, mgmtclient.Message{Redelivered: d.Redelivered, Properties: mgmtclient.Table{
			"message_id": d.MessageId, "delivery_mode": float64(d.DeliveryMode)}})
	}
	if last > 0 {
		if err := ch.Nack(last, true, true); err != nil {
			return nil, fmt.Errorf("queue %s: %w", queue, err)
		}
	}
	return list, nil
}

// isMissing: the server says that something does not exist.
func isMissing(err error) bool {
	var answer *amqp.Error
	return errors.As(err, &answer) && answer.Code == amqp.NotFound
}
