// Command amqp091go checks a broker with the official Go client, amqp091-go.
//
// It reads the broker's address from AMQP_URL, prints one line per check and exits 0 only if every
// check passes. All names it uses carry one random prefix, and it deletes them at the end. It runs on
// one goroutine; the client library has its own.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	publishCount  = 100
	prefetchCount = 10
	bigBytes      = 1 << 20
	waitLimit     = 20 * time.Second
)

// suite is one run against one broker: the connection and the names all checks share.
type suite struct {
	url                      string
	conn                     *amqp.Connection
	exchange, queue          string
	deadExchange, deadQueue  string
	topicExchange, topicRead string
}

func main() {
	url := os.Getenv("AMQP_URL")
	if url == "" {
		fmt.Fprintln(os.Stderr, "amqp091go: set AMQP_URL, for example amqp://guest:guest@localhost:5672/")
		os.Exit(2)
	}
	prefix := "interop.go." + randomHex()
	s := &suite{
		url: url, exchange: prefix + ".x", queue: prefix + ".q",
		deadExchange: prefix + ".dlx", deadQueue: prefix + ".dead",
		topicExchange: prefix + ".topic", topicRead: prefix + ".topicq",
	}
	if failed := s.run(); failed > 0 {
		fmt.Printf("%d checks failed\n", failed)
		os.Exit(1)
	}
}

// run performs every check and returns how many failed. Without a connection or the topology nothing
// else can be judged, so those two end the run at once.
func (s *suite) run() (failed int) {
	report := func(name string, err error) bool {
		if err != nil {
			failed++
			fmt.Printf("FAIL %s: %v\n", name, err)
			return false
		}
		fmt.Printf("ok   %s\n", name)
		return true
	}
	if !report("connect", s.connect()) {
		return failed
	}
	defer s.conn.Close()
	if !report("declare durable exchanges, queues, bindings", s.onChannel(s.declare)) {
		return failed
	}
	for _, check := range []struct {
		name string
		run  func(*amqp.Channel) error
	}{
		{"publish 100 with confirms", s.publishConfirmed},
		{"consume with prefetch 10", s.consumePrefetch},
		{"nack without requeue is dead-lettered", s.deadLetter},
		{"requeued message comes back redelivered", s.requeue},
		{"headers of every type round trip", s.headers},
		{"topic routing", s.topicRouting},
		{"passive declare of a missing queue closes with 404", s.missingQueue},
		{"redeclare with other arguments closes with 406", s.inequivalent},
		{"unknown delivery tag closes with 406", s.unknownTag},
		{"mandatory message returns before its confirm", s.mandatory},
		{"basic.get", s.get},
		{"transactions", s.transactions},
		{"1 MiB message", s.bigMessage},
		{"consumer is cancelled when its queue goes", s.serverCancel},
		{"clean up", s.cleanUp},
	} {
		report(check.name, s.onChannel(check.run))
	}
	return failed
}

func (s *suite) connect() error {
	conn, err := amqp.DialConfig(s.url, amqp.Config{Heartbeat: 10 * time.Second})
	if err != nil {
		return err
	}
	capabilities, _ := conn.Properties["capabilities"].(amqp.Table)
	for _, name := range []string{"publisher_confirms", "basic.nack", "consumer_cancel_notify", "exchange_exchange_bindings"} {
		if capabilities[name] != true {
			conn.Close()
			return fmt.Errorf("server capability %q is %v, want true", name, capabilities[name])
		}
	}
	s.conn = conn
	return nil
}

// onChannel gives a check a channel of its own: some checks end with the server closing it.
func (s *suite) onChannel(check func(*amqp.Channel) error) error {
	ch, err := s.conn.Channel()
	if err != nil {
		return fmt.Errorf("open channel: %w", err)
	}
	defer ch.Close()
	return check(ch)
}

func (s *suite) declare(ch *amqp.Channel) error {
	return errors.Join(
		ch.ExchangeDeclare(s.exchange, "direct", true, false, false, false, nil),
		ch.ExchangeDeclare(s.deadExchange, "fanout", true, false, false, false, nil),
		ch.ExchangeDeclare(s.topicExchange, "topic", true, false, false, false, nil),
		declareQueue(ch, s.queue, amqp.Table{"x-dead-letter-exchange": s.deadExchange}),
		declareQueue(ch, s.deadQueue, nil),
		declareQueue(ch, s.topicRead, nil),
		ch.QueueBind(s.queue, "work", s.exchange, false, nil),
		ch.QueueBind(s.deadQueue, "", s.deadExchange, false, nil),
		ch.QueueBind(s.topicRead, "order.*.paid", s.topicExchange, false, nil),
		ch.QueueBind(s.topicRead, "audit.#", s.topicExchange, false, nil),
		// The same declare again must be accepted: it is equivalent.
		declareQueue(ch, s.queue, amqp.Table{"x-dead-letter-exchange": s.deadExchange}),
	)
}

func declareQueue(ch *amqp.Channel, name string, args amqp.Table) error {
	q, err := ch.QueueDeclare(name, true, false, false, false, args)
	if err == nil && q.Name != name {
		return fmt.Errorf("declared queue %q, the server answered %q", name, q.Name)
	}
	return err
}

func (s *suite) publish(ch *amqp.Channel, body []byte, headers amqp.Table) error {
	return ch.PublishWithContext(context.Background(), s.exchange, "work", false, false,
		amqp.Publishing{DeliveryMode: amqp.Persistent, ContentType: "text/plain", Headers: headers, Body: body})
}

func (s *suite) publishConfirmed(ch *amqp.Channel) error {
	if err := ch.Confirm(false); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	var pending []*amqp.DeferredConfirmation
	for i := range publishCount {
		d, err := ch.PublishWithDeferredConfirmWithContext(ctx, s.exchange, "work", false, false,
			amqp.Publishing{DeliveryMode: amqp.Persistent, MessageId: fmt.Sprint(i), Body: fmt.Appendf(nil, "message %d", i)})
		if err != nil {
			return err
		}
		pending = append(pending, d)
	}
	for _, d := range pending {
		acked, err := d.WaitContext(ctx)
		if err != nil {
			return fmt.Errorf("publish %d: %w", d.DeliveryTag, err)
		}
		if !acked {
			return fmt.Errorf("publish %d was nacked", d.DeliveryTag)
		}
	}
	return nil
}

// consumePrefetch takes what publishConfirmed left, in order. While it holds a full prefetch, the
// queue must still count the rest as ready: that is the server's side of the promise.
func (s *suite) consumePrefetch(ch *amqp.Channel) error {
	if err := ch.Qos(prefetchCount, 0, false); err != nil {
		return err
	}
	deliveries, err := ch.Consume(s.queue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	var held []amqp.Delivery
	for received := 0; received < publishCount; {
		d, err := next(deliveries)
		if err != nil {
			return fmt.Errorf("after %d deliveries: %w", received, err)
		}
		if want := fmt.Sprintf("message %d", received); string(d.Body) != want || d.Redelivered {
			return fmt.Errorf("got %q (redelivered %v), want %q", d.Body, d.Redelivered, want)
		}
		received++
		held = append(held, d)
		if len(held) < prefetchCount {
			continue
		}
		q, err := ch.QueueDeclarePassive(s.queue, true, false, false, false, nil)
		if err != nil {
			return err
		}
		if q.Messages != publishCount-received || q.Consumers != 1 {
			return fmt.Errorf("holding %d of %d: queue reports %d ready and %d consumers", len(held), received, q.Messages, q.Consumers)
		}
		if len(deliveries) > 0 {
			return fmt.Errorf("a delivery beyond the prefetch of %d", prefetchCount)
		}
		if err := held[len(held)-1].Ack(true); err != nil {
			return err
		}
		held = held[:0]
	}
	return nil
}

func next(deliveries <-chan amqp.Delivery) (amqp.Delivery, error) {
	select {
	case d, ok := <-deliveries:
		if !ok {
			return d, errors.New("the delivery channel closed")
		}
		return d, nil
	case <-time.After(waitLimit):
		return amqp.Delivery{}, errors.New("no delivery")
	}
}

func (s *suite) deadLetter(ch *amqp.Channel) error {
	if err := s.publish(ch, []byte("bad"), amqp.Table{"kept": "yes"}); err != nil {
		return err
	}
	d, err := mustGet(ch, s.queue)
	if err != nil {
		return err
	}
	dead, err := ch.Consume(s.deadQueue, "", true, false, false, false, nil)
	if err != nil {
		return err
	}
	if err := d.Nack(false, false); err != nil {
		return err
	}
	got, err := next(dead)
	if err != nil {
		return err
	}
	deaths, _ := got.Headers["x-death"].([]any)
	if len(deaths) != 1 {
		return fmt.Errorf("x-death is %v, want one entry", got.Headers["x-death"])
	}
	death, _ := deaths[0].(amqp.Table)
	for key, want := range map[string]any{
		"reason": "rejected", "count": int64(1), "queue": s.queue, "exchange": s.exchange, "routing-keys": []any{"work"},
	} {
		if !reflect.DeepEqual(death[key], want) {
			return fmt.Errorf("x-death %s is %#v, want %#v", key, death[key], want)
		}
	}
	if _, ok := death["time"].(time.Time); !ok {
		return fmt.Errorf("x-death time is %#v, want a timestamp", death["time"])
	}
	for key, want := range map[string]any{
		"x-first-death-reason": "rejected", "x-first-death-queue": s.queue, "x-first-death-exchange": s.exchange, "kept": "yes",
	} {
		if got.Headers[key] != want {
			return fmt.Errorf("header %s is %#v, want %#v", key, got.Headers[key], want)
		}
	}
	if string(got.Body) != "bad" || got.RoutingKey != "work" || got.Exchange != s.deadExchange {
		return fmt.Errorf("dead letter is %q from %q with key %q", got.Body, got.Exchange, got.RoutingKey)
	}
	return nil
}

func mustGet(ch *amqp.Channel, queue string) (amqp.Delivery, error) {
	d, ok, err := ch.Get(queue, false)
	if err == nil && !ok {
		err = fmt.Errorf("queue %s is empty", queue)
	}
	return d, err
}

func (s *suite) requeue(ch *amqp.Channel) error {
	if err := errors.Join(s.publish(ch, []byte("first"), nil), s.publish(ch, []byte("second"), nil)); err != nil {
		return err
	}
	d, err := mustGet(ch, s.queue)
	if err != nil {
		return err
	}
	if err := d.Nack(false, true); err != nil {
		return err
	}
	for _, want := range []struct {
		body        string
		redelivered bool
	}{{"first", true}, {"second", false}} {
		d, err := mustGet(ch, s.queue)
		if err != nil {
			return err
		}
		if string(d.Body) != want.body || d.Redelivered != want.redelivered {
			return fmt.Errorf("got %q redelivered %v, want %q %v", d.Body, d.Redelivered, want.body, want.redelivered)
		}
		if err := d.Ack(false); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) headers(ch *amqp.Channel) error {
	when := time.Unix(1700000000, 0)
	want := amqp.Table{
		"bool": true, "false": false, "byte": byte(200), "int8": int8(-8), "int16": int16(-1600), "int32": int32(-320000),
		"int64": int64(-1) << 40, "float32": float32(1.5), "float64": 2.25, "decimal": amqp.Decimal{Scale: 2, Value: 314},
		"string": "grüße, 世界", "bytes": []byte{0, 1, 254, 255}, "time": when, "nil": nil,
		"array": []any{int32(1), "two", true, amqp.Table{"deep": int64(3)}},
		"table": amqp.Table{"inner": amqp.Table{"leaf": "x"}}, "empty": "",
	}
	err := ch.PublishWithContext(context.Background(), s.exchange, "work", false, false, amqp.Publishing{
		Headers: want, ContentType: "application/json", ContentEncoding: "identity", DeliveryMode: amqp.Persistent, Priority: 3,
		CorrelationId: "corr", ReplyTo: "reply", Expiration: "600000", MessageId: "id-1", Timestamp: when, Type: "order", AppId: "interop",
	})
	if err != nil {
		return err
	}
	d, err := mustGet(ch, s.queue)
	if err != nil {
		return err
	}
	for key, value := range want {
		if got := d.Headers[key]; !reflect.DeepEqual(got, value) {
			return fmt.Errorf("header %s came back as %#v, sent %#v", key, got, value)
		}
	}
	got := []any{d.ContentType, d.ContentEncoding, d.DeliveryMode, d.Priority, d.CorrelationId, d.ReplyTo, d.Expiration, d.MessageId, d.Type, d.AppId, d.Timestamp.Unix()}
	sent := []any{"application/json", "identity", uint8(2), uint8(3), "corr", "reply", "600000", "id-1", "order", "interop", when.Unix()}
	if !reflect.DeepEqual(got, sent) {
		return fmt.Errorf("properties came back as %v, sent %v", got, sent)
	}
	return d.Ack(false)
}

func (s *suite) topicRouting(ch *amqp.Channel) error {
	for _, key := range []string{"order.7.paid", "order.7.8.paid", "audit", "audit.a.b", "other"} {
		if err := ch.PublishWithContext(context.Background(), s.topicExchange, key, false, false, amqp.Publishing{}); err != nil {
			return err
		}
	}
	for _, want := range []string{"order.7.paid", "audit", "audit.a.b"} {
		d, err := mustGet(ch, s.topicRead)
		if err != nil {
			return err
		}
		if d.RoutingKey != want {
			return fmt.Errorf("got routing key %q, want %q", d.RoutingKey, want)
		}
		if err := d.Ack(false); err != nil {
			return err
		}
	}
	if _, ok, err := ch.Get(s.topicRead, true); ok || err != nil {
		return fmt.Errorf("the queue holds more than the matching messages (error %v)", err)
	}
	return nil
}

// wantClose checks that an operation ended in the server closing the channel, and with what.
func wantClose(got error, code int, text string) error {
	var closed *amqp.Error
	if !errors.As(got, &closed) {
		return fmt.Errorf("got %v, want a channel close", got)
	}
	if closed.Code != code || closed.Reason != text {
		return fmt.Errorf("closed with %d %q, want %d %q", closed.Code, closed.Reason, code, text)
	}
	return nil
}

func (s *suite) missingQueue(ch *amqp.Channel) error {
	name := s.queue + ".missing"
	_, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
	return wantClose(err, 404, "NOT_FOUND - no queue '"+name+"' in vhost '/'")
}

func (s *suite) inequivalent(ch *amqp.Channel) error {
	_, err := ch.QueueDeclare(s.deadQueue, true, false, false, false, amqp.Table{"x-max-length": int32(10)})
	if err := wantClose(err, 406, "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '"+s.deadQueue+
		"' in vhost '/': received the value '10' of type 'signedint' but current is none"); err != nil {
		return err
	}
	return s.onChannel(func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(s.deadQueue, false, false, false, false, nil)
		return wantClose(err, 406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '"+s.deadQueue+
			"' in vhost '/': received 'false' but current is 'true'")
	})
}

func (s *suite) unknownTag(ch *amqp.Channel) error {
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	if err := ch.Ack(7, false); err != nil {
		return err
	}
	select {
	case err := <-closed:
		return wantClose(err, 406, "PRECONDITION_FAILED - unknown delivery tag 7")
	case <-time.After(waitLimit):
		return errors.New("the channel stayed open")
	}
}

func (s *suite) mandatory(ch *amqp.Channel) error {
	if err := ch.Confirm(false); err != nil {
		return err
	}
	returns := ch.NotifyReturn(make(chan amqp.Return, 1))
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	d, err := ch.PublishWithDeferredConfirmWithContext(ctx, s.exchange, "nowhere", true, false, amqp.Publishing{Body: []byte("lost")})
	if err != nil {
		return err
	}
	if acked, err := d.WaitContext(ctx); err != nil || !acked {
		return fmt.Errorf("confirm: acked %v, error %v", acked, err)
	}
	select {
	case r := <-returns:
		if r.ReplyCode != 312 || r.ReplyText != "NO_ROUTE" || r.RoutingKey != "nowhere" || r.Exchange != s.exchange || string(r.Body) != "lost" {
			return fmt.Errorf("returned %d %q, exchange %q, key %q, body %q", r.ReplyCode, r.ReplyText, r.Exchange, r.RoutingKey, r.Body)
		}
		return nil
	default:
		return errors.New("confirmed without having been returned first")
	}
}

func (s *suite) get(ch *amqp.Channel) error {
	if _, ok, err := ch.Get(s.queue, false); ok || err != nil {
		return fmt.Errorf("get on an empty queue: found %v, error %v", ok, err)
	}
	if err := errors.Join(s.publish(ch, []byte("one"), nil), s.publish(ch, []byte("two"), nil)); err != nil {
		return err
	}
	for _, want := range []struct {
		body string
		left uint32
	}{{"one", 1}, {"two", 0}} {
		d, err := mustGet(ch, s.queue)
		if err != nil {
			return err
		}
		if string(d.Body) != want.body || d.MessageCount != want.left || d.Exchange != s.exchange || d.RoutingKey != "work" {
			return fmt.Errorf("got %q with %d left from %q %q", d.Body, d.MessageCount, d.Exchange, d.RoutingKey)
		}
		if err := d.Ack(false); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) transactions(ch *amqp.Channel) error {
	if err := ch.Tx(); err != nil {
		return err
	}
	count := func() (n int, err error) {
		err = s.onChannel(func(other *amqp.Channel) error {
			q, err := other.QueueDeclarePassive(s.queue, true, false, false, false, nil)
			n = q.Messages
			return err
		})
		return n, err
	}
	for _, step := range []struct {
		name string
		do   func() error
		want int
	}{
		{"publish before commit", func() error { return s.publish(ch, []byte("tx"), nil) }, 0},
		{"commit", ch.TxCommit, 1},
		{"publish before rollback", func() error { return s.publish(ch, []byte("never"), nil) }, 1},
		{"rollback", ch.TxRollback, 1},
		{"commit after rollback", ch.TxCommit, 1},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		if n, err := count(); err != nil || n != step.want {
			return fmt.Errorf("after %s the queue holds %d, want %d (error %v)", step.name, n, step.want, err)
		}
	}
	d, err := mustGet(ch, s.queue)
	if err != nil {
		return err
	}
	return errors.Join(d.Ack(false), ch.TxCommit())
}

func (s *suite) bigMessage(ch *amqp.Channel) error {
	body := make([]byte, bigBytes)
	rand.Read(body)
	if err := s.publish(ch, body, nil); err != nil {
		return err
	}
	d, err := mustGet(ch, s.queue)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(d.Body, body) {
		return fmt.Errorf("the body changed on the way (%d bytes sent, %d received)", len(body), len(d.Body))
	}
	return d.Ack(false)
}

func (s *suite) serverCancel(ch *amqp.Channel) error {
	name := s.queue + ".doomed"
	if err := declareQueue(ch, name, nil); err != nil {
		return err
	}
	cancelled := ch.NotifyCancel(make(chan string, 1))
	if _, err := ch.Consume(name, "doomed", true, false, false, false, nil); err != nil {
		return err
	}
	if err := s.onChannel(func(other *amqp.Channel) error {
		_, err := other.QueueDelete(name, false, false, false)
		return err
	}); err != nil {
		return err
	}
	select {
	case tag := <-cancelled:
		if tag != "doomed" {
			return fmt.Errorf("cancelled consumer %q, want \"doomed\"", tag)
		}
		return nil
	case <-time.After(waitLimit):
		return errors.New("no basic.cancel from the server")
	}
}

// cleanUp deletes what declare made; each queue must be empty, or a check lost count of a message.
func (s *suite) cleanUp(ch *amqp.Channel) error {
	left := map[string]int{}
	for _, name := range []string{s.queue, s.deadQueue, s.topicRead} {
		count, err := ch.QueueDelete(name, false, false, false)
		if err != nil {
			return err
		}
		if count != 0 {
			left[name] = count
		}
	}
	for _, name := range []string{s.exchange, s.deadExchange, s.topicExchange} {
		if err := ch.ExchangeDelete(name, false, false); err != nil {
			return err
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("messages left in the queues: %v", left)
	}
	_, err := ch.QueueDeclarePassive(s.queue, true, false, false, false, nil)
	return wantClose(err, 404, "NOT_FOUND - no queue '"+s.queue+"' in vhost '/'")
}

func randomHex() string {
	var b [4]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
