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
// For now a broker keeps everything in memory: nothing survives Shutdown.
//
// Two brokers in one process share nothing. All methods are safe for concurrent
// use.
package broker
