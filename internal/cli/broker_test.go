package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/brokertest"
)

// peerEnv names a broker to run these tests against instead of our own.
const peerEnv = "WARREN_TEST_AMQP_URL"

// bench is a broker, a connection to it beside the commands, and a queue.
type bench struct {
	t     *testing.T
	ch    *amqp.Channel
	queue string
}

// confirmChannel is a channel in confirm mode, for the length of the test.
func confirmChannel(t *testing.T, url string) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err == nil {
		err = ch.Confirm(false)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func newBench(t *testing.T) *bench {
	t.Helper()
	url := brokerURL(t)
	t.Setenv(urlEnv, url)
	b := &bench{t: t, ch: confirmChannel(t, url), queue: "cli." + rand.Text()}
	b.declare(b.queue)
	return b
}

func (b *bench) declare(queue string) {
	b.t.Helper()
	if _, err := b.ch.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if _, err := b.ch.QueueDelete(queue, false, false, false); err != nil && !errors.Is(err, amqp.ErrClosed) {
			b.t.Error(err)
		}
	})
}

func (b *bench) publish(bodies ...string) {
	b.t.Helper()
	for _, body := range bodies {
		b.publishMessage(amqp.Publishing{Body: []byte(body)})
	}
}

// publishMessage returns when the message is in the queue.
func (b *bench) publishMessage(m amqp.Publishing) {
	b.t.Helper()
	confirm, err := b.ch.PublishWithDeferredConfirm("", b.queue, false, false, m)
	if err != nil {
		b.t.Fatal(err)
	}
	if !confirm.Wait() {
		b.t.Fatal("the message was refused")
	}
}

// ready waits until the queue has n messages ready.
func (b *bench) ready(n int) {
	b.t.Helper()
	got := -1
	eventually(b.t, func() bool {
		q, err := b.ch.QueueDeclarePassive(b.queue, true, false, false, false, nil)
		if err != nil {
			b.t.Fatal(err)
		}
		got = q.Messages
		return got == n
	}, func() string { return fmt.Sprintf("the queue has %d messages ready, want %d", got, n) })
}

// bodies takes everything out of the queue.
func (b *bench) bodies() []string {
	b.t.Helper()
	out := []string{}
	for {
		d, ok, err := b.ch.Get(b.queue, true)
		if err != nil {
			b.t.Fatal(err)
		}
		if !ok {
			return out
		}
		mark := ""
		if d.Redelivered {
			mark = " (redelivered)"
		}
		out = append(out, string(d.Body)+mark)
	}
}

// eventually polls until ok or ten seconds have passed.
func eventually(t *testing.T, ok func() bool, why func() string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal(why())
		}
	}
}

func TestPublishLines(t *testing.T) {
	b := newBench(t)
	run(t, "one\n\nthree", "publish", "-q", b.queue).want(t, exitOK, "", "3 messages confirmed\n")
	if got := b.bodies(); !reflect.DeepEqual(got, []string{"one", "", "three"}) {
		t.Errorf("got %q", got)
	}
}

func TestPublishManyThroughASmallWindow(t *testing.T) {
	b := newBench(t)
	lines := strings.Repeat("x\n", 1000)
	run(t, lines, "publish", "-q", b.queue, "--window", "3").want(t, exitOK, "", "1000 messages confirmed\n")
	run(t, "", "purge", b.queue).want(t, exitOK, "queue "+b.queue+": 1000 messages purged\n", "")
}

func TestPublishProperties(t *testing.T) {
	b := newBench(t)
	run(t, "", "publish", "-q", b.queue, "--body", "hi", "--quiet", "--content-type", "text/plain", "-H", "n=5", "-H", `f:=1.5`,
		"--ttl", "60s", "--priority", "3", "--message-id", "m1", "--type", "t", "--app-id", "a", "--user-id", "guest",
		"--correlation-id", "c", "--reply-to", "r", "--content-encoding", "e").want(t, exitOK, "", "")
	d, ok, err := b.ch.Get(b.queue, true)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	got := fmt.Sprint(string(d.Body), d.ContentType, d.Headers, d.Expiration, d.Priority, d.DeliveryMode, d.MessageId, d.Type, d.AppId, d.UserId, d.CorrelationId, d.ReplyTo, d.ContentEncoding)
	want := fmt.Sprint("hi", "text/plain", amqp.Table{"n": int64(5), "f": 1.5}, "60000", 3, 2, "m1", "t", "a", "guest", "c", "r", "e")
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	run(t, "", "publish", "-q", b.queue, "--body", "hi", "--transient").want(t, exitOK, "", "1 message confirmed\n")
	if d, _, err := b.ch.Get(b.queue, true); err != nil || d.DeliveryMode != amqp.Transient {
		t.Errorf("delivery mode %d, %v", d.DeliveryMode, err)
	}
}

func TestPublishNamesEveryFailure(t *testing.T) {
	b := newBench(t)
	lines := fmt.Sprintf(`{"routing_key":%q,"body":"good 1"}
not json
{"routing_key":"cli.nowhere","body":"lost"}
{"exchange":"amq.topic","routing_key":"cli.nobody","body":"lost too"}
{"routing_key":%q,"body":"good 2"}
`, b.queue, b.queue)
	got := run(t, lines, "publish", "--json")
	for _, want := range []string{
		"warren: line 2: not published: not a JSON object\n",
		"warren: line 3: not published: there is no queue 'cli.nowhere' (312 NO_ROUTE)\n",
		"warren: line 4: not published: no queue is bound to exchange 'amq.topic' for routing key 'cli.nobody' (312 NO_ROUTE)\n",
	} {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("stderr lacks %q:\n%s", want, got.stderr)
		}
	}
	if got.code != exitFailed || strings.Count(got.stderr, "\n") != 4 || !strings.HasSuffix(got.stderr, "2 messages confirmed\n") {
		t.Errorf("status %d\n%s", got.code, got.stderr)
	}
	if bodies := b.bodies(); !reflect.DeepEqual(bodies, []string{"good 1", "good 2"}) {
		t.Errorf("got %q", bodies)
	}
	run(t, "", "publish", "-q", "cli.nowhere", "--body", "x", "--mandatory=false").want(t, exitOK, "", "1 message confirmed\n")
}

func TestPublishRefusedByTheBroker(t *testing.T) {
	b := newBench(t)
	got := run(t, "", "publish", "-e", "cli.missing", "--body", "x")
	got.want(t, exitFailed, "", "0 messages confirmed\nwarren: NOT_FOUND - no exchange 'cli.missing' in vhost '/' (404); 1 message sent but not confirmed, which may or may not have arrived\n")

	full := b.queue + ".full"
	if _, err := b.ch.QueueDeclare(full, true, false, false, false, amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish"}); err != nil {
		t.Fatal(err)
	}
	defer b.ch.QueueDelete(full, false, false, false)
	got = run(t, "a\nb\n", "publish", "-q", full, "--window", "1")
	got.want(t, exitFailed, "", "warren: line 2: not published: the broker refused it (basic.nack): a queue is full or failed\n1 message confirmed\n")
}

func TestAFailureIsToldBeforeTheNextLine(t *testing.T) {
	b := newBench(t)
	stdin, feed := io.Pipe()
	stderr := &watchedBuffer{}
	code := make(chan int)
	go func() { code <- Run(t.Context(), []string{"publish", "--json"}, stdin, io.Discard, stderr) }()
	io.WriteString(feed, `{"routing_key":"cli.nowhere"}`+"\n")
	eventually(t, func() bool { return strings.Contains(stderr.String(), "line 1: not published") },
		func() string { return "the failure is not told while the input is open: " + stderr.String() })
	io.WriteString(feed, `{"routing_key":"`+b.queue+`"}`+"\n")
	b.ready(1)
	feed.Close()
	if c := <-code; c != exitFailed {
		t.Errorf("status %d, %s", c, stderr.String())
	}
}

func TestConsumeAndPublishPassMessagesOnUnchanged(t *testing.T) {
	b := newBench(t)
	want := amqp.Publishing{
		Headers: amqp.Table{
			"i32": int32(1), "i64": int64(2), "u8": uint8(3), "f32": float32(0.5), "f64": 2.0, "s": "text", "bytes": []byte{0, 255},
			"t": time.Unix(1767323045, 0).UTC(), "d": amqp.Decimal{Scale: 2, Value: 314}, "nil": nil,
			"a": []any{"x", int32(1), amqp.Table{"deep": true}},
		},
		ContentType: "application/x", ContentEncoding: "gzip", DeliveryMode: amqp.Transient, Priority: 4, CorrelationId: "c",
		ReplyTo: "r", Expiration: "600000", MessageId: "m", Timestamp: time.Unix(1767323045, 0).UTC(), Type: "ty", AppId: "app",
		Body: []byte{0xff, '\n', 0},
	}
	b.publishMessage(want)
	lines := run(t, "", "consume", b.queue, "-n", "1", "--json")
	if lines.code != exitOK || lines.stderr != "" {
		t.Fatalf("%+v", lines)
	}
	run(t, lines.stdout, "publish", "--json").want(t, exitOK, "", "1 message confirmed\n")
	d, ok, err := b.ch.Get(b.queue, true)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	got := amqp.Publishing{
		Headers: d.Headers, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: d.DeliveryMode, Priority: d.Priority,
		CorrelationId: d.CorrelationId, ReplyTo: d.ReplyTo, Expiration: d.Expiration, MessageId: d.MessageId, Timestamp: d.Timestamp.UTC(),
		Type: d.Type, AppId: d.AppId, Body: d.Body,
	}
	if when, ok := got.Headers["t"].(time.Time); ok {
		got.Headers["t"] = when.UTC()
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("through %s\nbecame %+v\nwant   %+v", lines.stdout, got, want)
	}
}

func TestConsumeTakesNoMoreThanTheCount(t *testing.T) {
	b := newBench(t)
	b.publish("1", "2", "3", "4", "5")
	run(t, "", "consume", b.queue, "-n", "3", "--prefetch", "2").want(t, exitOK, "1\n2\n3\n", "")
	b.ready(2)
	if got := b.bodies(); !reflect.DeepEqual(got, []string{"4", "5"}) {
		t.Errorf("left %q: nothing beyond the count may have been taken and given back", got)
	}
}

func TestConsumeUntilIdle(t *testing.T) {
	b := newBench(t)
	b.publish("a", "b\nc")
	got := run(t, "", "consume", b.queue, "--idle", "50ms", "--null")
	got.want(t, exitOK, "a\x00b\nc\x00", "")
	b.publish("b\nc")
	run(t, "", "consume", b.queue, "--idle", "50ms").want(t, exitOK, "b\nc\n", "warren: a body contains the end-of-message byte, …")
	b.ready(0)
}

func TestConsumeAcksOnlyWhatIsWritten(t *testing.T) {
	b := newBench(t)
	b.publish("1", "2", "3")
	out := &failingWriter{after: 1}
	var stderr bytes.Buffer
	code := Run(t.Context(), []string{"consume", b.queue, "--prefetch", "1"}, strings.NewReader(""), out, &stderr)
	if code != exitFailed || stderr.String() != "warren: cannot write the messages: the pipe is closed\n" {
		t.Errorf("status %d, %q", code, stderr.String())
	}
	b.ready(2)
	if got := b.bodies(); !reflect.DeepEqual(got, []string{"2 (redelivered)", "3"}) {
		t.Errorf("left %q: the first was written and is acked, the second was not", got)
	}
}

func TestConsumeSettlesWhatIsWrittenWhenInterrupted(t *testing.T) {
	b := newBench(t)
	b.publish("1", "2")
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out := &watchedBuffer{}
	code := make(chan int)
	// With a count above the prefetch the last acks are held back until the end.
	go func() {
		code <- Run(ctx, []string{"consume", b.queue, "-n", "5"}, strings.NewReader(""), out, io.Discard)
	}()
	eventually(t, func() bool { return out.String() == "1\n2\n" }, func() string { return "written: " + out.String() })
	interrupt()
	if c := <-code; c != exitOK {
		t.Errorf("status %d", c)
	}
	if got := b.bodies(); len(got) != 0 {
		t.Errorf("written but still there: %q", got)
	}
}

func TestConsumeRejects(t *testing.T) {
	b := newBench(t)
	source := b.queue + ".source"
	args := amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": b.queue}
	if _, err := b.ch.QueueDeclare(source, true, false, false, false, args); err != nil {
		t.Fatal(err)
	}
	defer b.ch.QueueDelete(source, false, false, false)
	run(t, "x\ny\n", "publish", "-q", source, "--quiet").want(t, exitOK, "", "")
	run(t, "", "consume", source, "--no-requeue", "-n", "1").want(t, exitOK, "x\n", "")
	run(t, "", "get", source, "--no-requeue").want(t, exitOK, "y\n", "")
	b.ready(2)
	if got := b.bodies(); !reflect.DeepEqual(got, []string{"x", "y"}) {
		t.Errorf("dead letters %q", got)
	}
}

func TestConsumeTellsThatTheQueueIsGone(t *testing.T) {
	b := newBench(t)
	gone := b.queue + ".gone"
	b.declare(gone)
	b.publish("x")
	out := &watchedBuffer{}
	var stderr bytes.Buffer
	code := make(chan int)
	go func() { code <- Run(t.Context(), []string{"consume", gone}, strings.NewReader(""), out, &stderr) }()
	eventually(t, func() bool {
		q, err := b.ch.QueueDeclarePassive(gone, true, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		return q.Consumers == 1
	}, func() string { return "no consumer" })
	if _, err := b.ch.QueueDelete(gone, false, false, false); err != nil {
		t.Fatal(err)
	}
	if c := <-code; c != exitFailed || stderr.String() != "warren: the broker ended the consumer: queue '"+gone+"' was deleted or moved\n" {
		t.Errorf("status %d, %q", c, stderr.String())
	}
}

func TestConsumeWatchesAnExchange(t *testing.T) {
	b := newBench(t)
	x := b.queue + ".x"
	run(t, "", "declare", "exchange", x, "--type", "topic").want(t, exitOK, "exchange "+x+"\n", "")
	defer b.ch.ExchangeDelete(x, false, false)
	out := &watchedBuffer{}
	code := make(chan int)
	go func() {
		code <- Run(t.Context(), []string{"consume", "-e", x, "-k", "a.*", "-n", "1"}, strings.NewReader(""), out, io.Discard)
	}()
	// The exchange routes once the command has bound its queue.
	eventually(t, func() bool { return run(t, "", "publish", "-e", x, "-k", "a.b", "--body", "seen").code == exitOK }, func() string { return "never bound" })
	if c := <-code; c != exitOK || out.String() != "seen\n" {
		t.Errorf("status %d, %q", c, out.String())
	}
}

func TestGet(t *testing.T) {
	b := newBench(t)
	run(t, "", "get", b.queue).want(t, exitEmpty, "", "warren: the queue is empty: "+b.queue+"\n")
	b.publish("1", "2", "3")
	run(t, "", "get", b.queue, "--requeue", "-n", "2").want(t, exitOK, "1\n2\n", "")
	b.ready(3)
	got := run(t, "", "get", b.queue, "--json")
	got.want(t, exitOK, `{"exchange":"","routing_key":"`+b.queue+`","redelivered":true,"message_count":2,"properties":{"delivery_mode":0},"body":"1"}`+"\n", "")
	run(t, "", "get", b.queue, "-n", "9").want(t, exitOK, "2\n3\n", "")
	run(t, "", "get", "cli.missing").want(t, exitFailed, "", "warren: NOT_FOUND - no queue 'cli.missing' in vhost '/' (404)\n")
}

func TestTopologyCommands(t *testing.T) {
	b := newBench(t)
	q, x, y := b.queue+".q", b.queue+".x", b.queue+".y"
	run(t, "", "declare", "queue", q, "--ttl", "60s").want(t, exitOK, "queue "+q+": 0 messages, 0 consumers\n", "")
	run(t, "", "declare", "queue", q, "--ttl", "61s").want(t, exitFailed, "", "warren: PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue '"+q+"' in vhost '/': …")
	run(t, "", "declare", "queue", q, "--passive").want(t, exitOK, "queue "+q+": 0 messages, 0 consumers\n", "")
	run(t, "", "declare", "exchange", x, "--type", "topic").want(t, exitOK, "exchange "+x+"\n", "")
	run(t, "", "declare", "exchange", y, "--type", "fanout", "--alternate-exchange", x).want(t, exitOK, "exchange "+y+"\n", "")
	run(t, "", "bind", x, q, "-k", "a.*", "-k", "b").want(t, exitOK, x+" -> "+q+" bound with key 'a.*'\n"+x+" -> "+q+" bound with key 'b'\n", "")
	run(t, "", "publish", "-e", x, "-k", "a.1", "--body", "m").want(t, exitOK, "", "1 message confirmed\n")
	run(t, "", "publish", "-e", y, "-k", "b", "--body", "by the alternate exchange").want(t, exitOK, "", "1 message confirmed\n")
	run(t, "", "unbind", x, q, "-k", "b").want(t, exitOK, x+" -> "+q+" unbound with key 'b'\n", "")
	run(t, "", "publish", "-e", x, "-k", "b", "--body", "m").want(t, exitFailed, "", "warren: line 1: not published: no queue is bound …")
	run(t, "", "bind", y, x, "--to-exchange").want(t, exitOK, y+" -> "+x+" bound with key ''\n", "")
	run(t, "", "delete", "exchange", y, "--if-unused").want(t, exitFailed, "", "warren: PRECONDITION_FAILED - exchange '"+y+"' in vhost '/' in use (406)\n")
	run(t, "", "unbind", y, x, "--to-exchange").want(t, exitOK, y+" -> "+x+" unbound with key ''\n", "")
	run(t, "", "delete", "queue", q, "--if-empty").want(t, exitFailed, "", "warren: PRECONDITION_FAILED - queue '"+q+"' in vhost '/' not empty (406)\n")
	run(t, "", "delete", "queue", q).want(t, exitOK, "queue "+q+" deleted with 2 messages\n", "")
	run(t, "", "delete", "queue", q).want(t, exitOK, "queue "+q+" was not there\n", "")
	run(t, "", "delete", "exchange", x).want(t, exitOK, "exchange "+x+" deleted\n", "")
	run(t, "", "delete", "exchange", y).want(t, exitOK, "exchange "+y+" deleted\n", "")
	run(t, "", "delete", "exchange", y).want(t, exitOK, "exchange "+y+" was not there\n", "")
	run(t, "", "declare", "exchange", y, "--passive").want(t, exitFailed, "", "warren: NOT_FOUND - no exchange '"+y+"' in vhost '/' (404)\n")
}

func TestServerNamedQueue(t *testing.T) {
	b := newBench(t)
	got := run(t, "", "declare", "queue", "", "--auto-delete")
	name, _, ok := strings.Cut(strings.TrimPrefix(got.stdout, "queue "), ":")
	if got.code != exitOK || !ok || !strings.HasPrefix(name, "amq.gen-") {
		t.Fatalf("%+v", got)
	}
	run(t, "", "delete", "queue", name).want(t, exitOK, "queue "+name+" deleted with 0 messages\n", "")
	_ = b
}

// watchedBuffer can be read while a command writes to it.
type watchedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *watchedBuffer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(p)
}

func (w *watchedBuffer) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// failingWriter fails after some writes, as a closed pipe does.
type failingWriter struct{ after int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.after == 0 {
		return 0, errors.New("the pipe is closed")
	}
	w.after--
	return len(p), nil
}

// brokerURL is the broker to test with.
func brokerURL(t *testing.T) string {
	t.Helper()
	if url := os.Getenv(peerEnv); url != "" {
		return url
	}
	return brokertest.New(t).URL()
}
