// Package reliable publishes and consumes messages so that none is lost, over any
// AMQP 0-9-1 broker: RabbitMQ 3.10 and newer, WarrenMQ, and the broker that a
// program embeds.
//
//	client, err := reliable.Open(ctx, reliable.FromEnv(broker.Embedded("")), reliable.Config{})
//	if err != nil { … }
//	orders := reliable.Queue{Name: "orders"}
//	_, err = reliable.Consume(ctx, client, orders, func(ctx context.Context, m *reliable.Message[Order]) error {
//		return ship(ctx, m.Body) // nil acknowledges, an error retries later
//	})
//	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToQueue(orders))
//	err = publisher.Publish(ctx, Order{ID: 7}) // nil: the broker has it, in a queue
//	err = client.Run(ctx) // until ctx ends, then drains
//
// # What it promises
//
// A nil error of Publish means that the broker has confirmed the message and that
// it was routed to a queue. Messages are persistent and mandatory and have a
// message id, a UUID of version 7. When the connection is lost, what is not
// confirmed is sent again with the same id, so a message can arrive twice but not
// be lost. Every call honours its context to within 50 ms, also while the broker
// is away or accepts no publishes.
//
// A consumed message is acknowledged after its handler returned nil, and never
// before. An acknowledgement belongs to the channel that the message came on; if
// that is gone it is dropped, because on a new channel the same number means
// another message. Handlers therefore see a message at least once; package
// [github.com/warrenmq/warren/reliable/dedup] has the stores that make the
// effect happen once.
//
// # What there is
//
//   - Connect: [Open] with [FromEnv], [ToURL] or [Via]; [Client.Ready], [Client.Health], [Client.Run].
//   - Publish: [NewPublisher] along [ToQueue] or [ToExchange]; Publish, PublishAsync, PublishAll; [After] and [At].
//   - Consume: [Consume], [ConsumeBatch] or a [Mux]; [Concurrency], [PartitionBy], [Timeout], [Use], [Breaker], [RateLimit].
//   - Decide: a handler's error, or [Permanent], [RetryAfter], [Snooze], [Drop], [Pause] around it; [RetryPolicy].
//   - Handle once: [Idempotent], or [InTx] for exact effects; [NewOutboxPublisher] for the other direction.
//   - Dead letters: [Client.DeadLetters], to scan, redrive, purge, export and import; `warren dlq` does the same.
//   - Watch: [Observer] and package otel; [Config.Logger]. Test: package reliabletest.
//
// Each has an example. The broker gets what they need declared by itself; `warren
// topology plan` prints it.
//
// # How it works
//
// Publishing and consuming use connections of their own, both supervised: they
// come back with their channels, topology and subscriptions, after a loss, a
// closed channel or a consumer that the server cancelled. Whether the broker
// blocks publishers is a state that is looked at before anything is written.
//
// Goroutines: a Client has one supervisor per connection, a Publisher a writer
// that owns its channel and a collector of confirms, a Consumer one that keeps it
// subscribed, one that sends acknowledgements, and its handlers. All exported
// methods may be called from any goroutine.
package reliable
