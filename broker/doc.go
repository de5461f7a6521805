// Package broker embeds a WarrenMQ broker in a Go program.
//
// A Broker speaks AMQP 0-9-1 as RabbitMQ does, to any client: over TCP with
// Serve, or inside the process with Dial, which fits the Dial field of
// amqp091-go's Config. The zero Config is a working broker:
//
//	b, err := broker.Open(broker.Config{})
//	if err != nil { … }
//	defer b.Shutdown(context.Background())
//	conn, err := amqp.DialConfig("amqp://guest:guest@embedded/", amqp.Config{Dial: b.Dial})
//
// With Config.Dir the broker keeps durable exchanges, queues and bindings and
// persistent messages in that directory, and a publisher confirm means that the
// message is on the disk. Without it everything is in memory, and nothing
// survives Shutdown.
//
// Two brokers in one process share nothing. All methods are safe for concurrent
// use.
package broker
