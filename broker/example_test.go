package broker_test

import (
	"context"
	"fmt"
	"log"
	"net"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/broker"
)

// A program publishes to a broker of its own, waits for the confirm, and
// consumes what it has published. No port is opened.
func Example() {
	b, err := broker.Open(broker.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Shutdown(context.Background())

	conn, err := amqp.DialConfig("amqp://guest:guest@embedded/", amqp.Config{Dial: b.Dial})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		log.Fatal(err)
	}
	if err := ch.Confirm(false); err != nil {
		log.Fatal(err)
	}
	if _, err := ch.QueueDeclare("greetings", true, false, false, false, nil); err != nil {
		log.Fatal(err)
	}
	sent, err := ch.PublishWithDeferredConfirm("", "greetings", true, false, amqp.Publishing{Body: []byte("hello")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("confirmed:", sent.Wait())

	deliveries, err := ch.Consume("greetings", "", false, false, false, false, nil)
	if err != nil {
		log.Fatal(err)
	}
	d := <-deliveries
	fmt.Printf("received: %s\n", d.Body)
	d.Ack(false)
	// Output:
	// confirmed: true
	// received: hello
}

// A broker listens for clients in other processes too. Serve returns
// ErrClosed after Shutdown.
func ExampleBroker_Serve() {
	b, err := broker.Open(broker.Config{VHosts: []string{"/", "shop"}})
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- b.Serve(l) }()

	conn, err := amqp.Dial("amqp://guest:guest@" + l.Addr().String() + "/shop")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("product:", conn.Properties["product"])
	conn.Close()

	if err := b.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-ended)
	// Output:
	// product: WarrenMQ
	// broker: closed
}
