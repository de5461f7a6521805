package mgmt

import (
	"context"
	"fmt"
	"net"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// VHost is the virtual host that the scene is built in. It has to exist and to be
// empty.
const VHost = "scene"

// Scene is what Build has made: it stands as long as its connections do.
type Scene struct {
	conns []*amqp.Connection
}

// Close ends the scene's connections.
func (s *Scene) Close() {
	for _, c := range s.conns {
		c.Close() // the scene is over either way
	}
}

// Build makes the scene over AMQP. dial may be nil for TCP.
func Build(url string, dial func(network, addr string) (net.Conn, error)) (*Scene, error) {
	s := &Scene{}
	if err := s.build(url, dial); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Scene) build(url string, dial func(network, addr string) (net.Conn, error)) error {
	steps := []func(*amqp.Channel) error{declare, bind, publish, consume}
	for i, name := range []string{"declaring", "binding", "publishing", "consuming"} {
		conn, err := amqp.DialConfig(url, amqp.Config{
			Vhost: VHost, Dial: dial, Heartbeat: 30 * time.Second, Locale: "en_US",
			Properties: amqp.Table{"connection_name": "scene " + name, "product": "scene", "version": "1"},
		})
		if err != nil {
			return err
		}
		s.conns = append(s.conns, conn)
		ch, err := conn.Channel()
		if err == nil {
			err = steps[i](ch)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func declare(ch *amqp.Channel) error {
	type x struct {
		name, kind                    string
		durable, autoDelete, internal bool
		args                          amqp.Table
	}
	for _, x := range []x{
		{"x.topic", "topic", true, false, false, amqp.Table{"alternate-exchange": "x.alt"}},
		{"x.alt", "fanout", true, false, false, nil},
		{"x.headers", "headers", false, true, false, nil},
		{"x.internal", "direct", true, false, true, amqp.Table{"note": "free text", "n": int32(7)}},
	} {
		if err := ch.ExchangeDeclare(x.name, x.kind, x.durable, x.autoDelete, x.internal, false, x.args); err != nil {
			return err
		}
	}
	type q struct {
		name                           string
		durable, autoDelete, exclusive bool
		args                           amqp.Table
	}
	for _, q := range []q{
		{"q.plain", true, false, false, nil},
		{"q.args", true, false, false, amqp.Table{
			"x-message-ttl": int32(6_000_000), "x-max-length": int32(1000), "x-overflow": "reject-publish",
			"x-dead-letter-exchange": "x.alt", "x-dead-letter-routing-key": "dead",
		}},
		{"q.priority", true, false, false, amqp.Table{"x-max-priority": int32(5)}},
		{"q.single", true, false, false, amqp.Table{"x-single-active-consumer": true}},
		{"q.idle", true, false, false, nil},
		{"q.quorum", true, false, false, amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": int32(7)}},
		{"q/slash ü", true, false, false, nil},
		{"q.exclusive", false, true, true, nil},
	} {
		if _, err := ch.QueueDeclare(q.name, q.durable, q.autoDelete, q.exclusive, false, q.args); err != nil {
			return err
		}
	}
	return nil
}

func bind(ch *amqp.Channel) error {
	type b struct {
		queue, key, exchange string
		args                 amqp.Table
	}
	for _, b := range []b{
		{"q.plain", "a.*", "x.topic", nil},
		{"q.plain", "a~b/c d", "x.topic", nil},
		{"q.plain", "", "x.topic", nil},
		{"q.args", "a.*", "x.topic", amqp.Table{"note": "with arguments"}},
		{"q/slash ü", "ü", "x.topic", nil},
		{"q.priority", "", "x.headers", amqp.Table{"x-match": "all", "kind": "urgent"}},
		{"q.priority", "p", "amq.direct", nil},
	} {
		if err := ch.QueueBind(b.queue, b.key, b.exchange, false, b.args); err != nil {
			return err
		}
	}
	return ch.ExchangeBind("x.alt", "alt.#", "x.topic", false, nil)
}

// publish leaves four messages in q.args, three in q.plain (for the consumers),
// two in q.priority and one in q.idle, and one publish that nobody wants.
func publish(ch *amqp.Channel) error {
	if err := ch.Confirm(false); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	put := func(exchange, key string, mandatory bool, p amqp.Publishing) error {
		p.DeliveryMode = amqp.Persistent
		confirm, err := ch.PublishWithDeferredConfirm(exchange, key, mandatory, false, p)
		if err == nil {
			_, err = confirm.WaitContext(ctx)
		}
		return err
	}
	for i := range 3 { // each goes to q.plain and q.args
		if err := put("x.topic", "a.b", false, amqp.Publishing{Body: fmt.Appendf(nil, "message %d", i)}); err != nil {
			return err
		}
	}
	for _, m := range []struct {
		exchange, key string
		mandatory     bool
		p             amqp.Publishing
	}{
		{"", "q.args", false, amqp.Publishing{Body: []byte{0xff, 0xfe}, ContentType: "application/octet-stream",
			Headers: amqp.Table{"n": int32(1), "list": []any{"a", int64(2)}}, MessageId: "m-1", Timestamp: time.Unix(1_700_000_000, 0)}},
		{"", "q.priority", false, amqp.Publishing{Body: []byte("low"), Priority: 1}},
		{"", "q.priority", false, amqp.Publishing{Body: []byte("high"), Priority: 4}},
		{"", "q.idle", false, amqp.Publishing{Body: []byte("alone")}},
		{"amq.direct", "nobody", true, amqp.Publishing{Body: []byte("returned")}},
		{"amq.direct", "nobody", false, amqp.Publishing{Body: []byte("dropped")}},
	} {
		if err := put(m.exchange, m.key, m.mandatory, m.p); err != nil {
			return err
		}
	}
	return nil
}

// consume acknowledges one message of q.plain and keeps two, polls q.idle, and
// waits with two consumers at queues that stay empty.
func consume(ch *amqp.Channel) error {
	if err := ch.Qos(2, 0, false); err != nil {
		return err
	}
	in, err := ch.Consume("q.plain", "plain-consumer", false, false, false, false, amqp.Table{"x-priority": int32(3)})
	if err != nil {
		return err
	}
	for i := range 3 {
		select {
		case d := <-in:
			if i == 0 {
				if err := d.Ack(false); err != nil {
					return err
				}
			}
		case <-time.After(30 * time.Second):
			return fmt.Errorf("delivery %d of q.plain did not come", i+1)
		}
	}
	if err := ch.Qos(0, 0, false); err != nil {
		return err
	}
	if _, err := ch.Consume("q.single", "single-1", true, false, false, false, nil); err != nil {
		return err
	}
	if _, err := ch.Consume("q.single", "single-2", true, false, false, false, nil); err != nil {
		return err
	}
	if d, ok, err := ch.Get("q.idle", false); err != nil || !ok {
		return fmt.Errorf("nothing came out of q.idle: %w", err)
	} else if err := d.Nack(false, true); err != nil {
		return err
	}
	_, _, err = ch.Get("q.idle", true)
	return err
}
