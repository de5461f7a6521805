package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func asError[E error](err error, target *E) bool { return errors.As(err, target) }

// TestLesson tells the whole lesson and compares the totals with what the steps
// are written to do: a step that silently does less is found here.
func TestLesson(t *testing.T) {
	o := testBroker(t)
	leak := goleak.IgnoreCurrent()
	var out bytes.Buffer
	o.Out = &out
	l, err := tell(t, t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	want := Tally{Published: 138, Confirmed: 138, Returned: 1, Routed: 144, Delivered: 153, First: 144,
		Redelivered: 4, Retried: 5, DeadLettered: 2, Handled: 141, Deduplicated: 1,
		Acked: 142, Moved: 7, CutOff: 4, Repaired: 1}
	if l.report.Totals != want {
		t.Errorf("totals %+v, want %+v", l.report.Totals, want)
	}
	if len(l.report.Steps) != 7 {
		t.Errorf("%d steps, want 7", len(l.report.Steps))
	}
	wantGone(t, o, l.names)
	if o.Dial == nil { // an embedded broker has goroutines of its own
		goleak.VerifyNone(t, leak)
	}
}

// TestRunTellsPlainly checks the text a pipe gets: complete, without terminal
// codes, within 80 columns, and in time.
func TestRunTellsPlainly(t *testing.T) {
	t.Parallel()
	o := testBroker(t)
	var out bytes.Buffer
	o.Out = &out
	started := time.Now()
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("took %v, want under 20 s", took)
	}
	text := out.String()
	for _, want := range []string{"1/7", "7/7", report.Prefix, "order.eu.paid", "312 NO_ROUTE",
		"redelivered=true", "unreadable, 1x in orders", "attempt 4: the mail server", "planned 1000", "All numbers add up", "published"} {
		if !strings.Contains(text, want) {
			t.Errorf("the story does not contain %q", want)
		}
	}
	if strings.Contains(text, "\x1b") || strings.Contains(text, "FAIL") {
		t.Errorf("the story has terminal codes or failures:\n%s", text)
	}
	for line := range strings.Lines(text) {
		if len(strings.TrimRight(line, "\n")) > columns {
			t.Errorf("line of %d columns: %s", len(line), line)
		}
	}
}

func TestRunTellsMachines(t *testing.T) {
	t.Parallel()
	o := testBroker(t)
	var out bytes.Buffer
	o.Out, o.JSON, o.Color = &out, true, true
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	var last map[string]any
	for scanner := bufio.NewScanner(&out); scanner.Scan(); {
		last = nil
		if err := json.Unmarshal(scanner.Bytes(), &last); err != nil {
			t.Fatalf("%v in %s", err, scanner.Text())
		}
		kind, _ := last["event"].(string)
		kinds[kind]++
		if ok, has := last["ok"].(bool); has && !ok {
			t.Errorf("not ok: %s", scanner.Text())
		}
	}
	for kind, want := range map[string]int{"start": 1, "step": 7, "routed": 8, "returned": 1, "died": 1,
		"attempt": 7, "repaired": 1, "deduplicated": 1, "cleaned": 1, "summary": 1} {
		if kinds[kind] != want {
			t.Errorf("%d events %q, want %d", kinds[kind], kind, want)
		}
	}
	totals, _ := last["totals"].(map[string]any)
	if last["event"] != "summary" || last["ok"] != true || totals["published"] != float64(138) {
		t.Errorf("last line is %v", last)
	}
}

// trigger is a writer that calls back once, as soon as a text has been written.
type trigger struct {
	text string
	once sync.Once
	call func()
}

func (w *trigger) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		w.once.Do(w.call)
	}
	return len(p), nil
}

// TestInterruptCleansUp ends the context in the middle of each step.
func TestInterruptCleansUp(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"1/7", "parcels", "attempt 2"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			o := testBroker(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			o.Out = &trigger{text: at, call: func() { cancel(errors.New("stop it")) }}
			l, err := tell(t, ctx, o)
			if err == nil || !strings.Contains(err.Error(), "interrupted: stop it") {
				t.Errorf("error %v, want interrupted", err)
			}
			if l.report.QueuesDeleted != len(l.names.queues) || l.report.ExchangesDeleted != len(l.names.exchanges) {
				t.Errorf("deleted %d queues and %d exchanges of %d and %d", l.report.QueuesDeleted,
					l.report.ExchangesDeleted, len(l.names.queues), len(l.names.exchanges))
			}
			wantGone(t, o, l.names)
		})
	}
}

// mutable is a connection whose peer can fall silent: what is sent disappears and
// nothing arrives, but it stays open.
type mutable struct {
	net.Conn
	silent <-chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (c *mutable) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	select {
	case <-c.silent:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c *mutable) Write(p []byte) (int, error) {
	select {
	case <-c.silent:
		return len(p), nil
	default:
		return c.Conn.Write(p)
	}
}

func (c *mutable) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// TestSilentBrokerIsNamed lets every connection fall silent in the middle of a
// step: the run must end with a clear line, and still clean up over a new one.
func TestSilentBrokerIsNamed(t *testing.T) {
	t.Parallel()
	o := testBroker(t)
	silent := make(chan struct{})
	dial := o.Dial
	if dial == nil {
		dial = dialTCP
	}
	real := o
	var mu sync.Mutex
	o.Dial = func(network, addr string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		conn, err := dial(network, addr)
		select {
		case <-silent:
			return conn, err // the clean-up's
		default:
		}
		return &mutable{Conn: conn, silent: silent, closed: make(chan struct{})}, err
	}
	o.Out = &trigger{text: "parcels", call: func() { close(silent) }}
	o.limits.step = 2 * time.Second
	o.limits.patience = 20 * time.Second
	started := time.Now()
	l, err := tell(t, t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "step 4 (crash): no answer from the broker within 2s") {
		t.Errorf("error %v, want a silent broker in step 4", err)
	}
	if took := time.Since(started); took > 12*time.Second {
		t.Errorf("took %v to give up", took)
	}
	wantGone(t, real, l.names)
}

// TestLostConnections cuts every connection in the middle of a step.
func TestLostConnections(t *testing.T) {
	t.Parallel()
	o := testBroker(t)
	dial := o.Dial
	if dial == nil {
		dial = dialTCP
	}
	real := o
	var mu sync.Mutex
	var conns []net.Conn
	o.Dial = func(network, addr string) (net.Conn, error) {
		conn, err := dial(network, addr)
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, conn)
		return conn, err
	}
	o.Out = &trigger{text: "a fast consumer joins", call: func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			_ = c.Close()
		}
	}}
	l, err := tell(t, t.Context(), o)
	if err == nil || !strings.HasPrefix(err.Error(), "step 3 (back-pressure): ") {
		t.Errorf("error %v, want one of step 3", err)
	}
	var mismatch *MismatchError
	if asError(err, &mismatch) {
		t.Errorf("a lost connection is told as a mismatch: %v", err)
	}
	wantGone(t, real, l.names)
}

// TestMuteListener has nothing that speaks AMQP behind the port at all.
func TestMuteListener(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
		}
	}()
	var out bytes.Buffer
	_, err = Run(t.Context(), Options{URL: "amqp://guest:secret@" + ln.Addr().String(), Out: &out,
		limits: limits{connect: 200 * time.Millisecond}})
	want := "cannot connect to amqp://" + ln.Addr().String() + "/: no answer within 200ms"
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if out.Len() > 0 {
		t.Errorf("told %q without a broker", out.String())
	}
}

// TestUnreachable wants one line, without the password, for every way not to reach
// a broker.
func TestUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := ln.Addr().String()
	_ = ln.Close()
	for _, url := range []string{
		"amqp://guest:secret@" + free + "/", "amqp://guest:secret@" + free + "/shop", "amqps://guest:secret@" + free,
		"http://guest:secret@localhost/", "amqp://guest:secret@localhost:%zz/", "secret",
	} {
		var out bytes.Buffer
		_, err := Run(t.Context(), Options{URL: url, Out: &out, JSON: true})
		if err == nil || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "secret") ||
			!strings.HasPrefix(err.Error(), "cannot connect to ") {
			t.Errorf("%s: error %v", url, err)
		}
		var summary struct {
			Event, Error string
			OK           bool
		}
		if jsonErr := json.Unmarshal(out.Bytes(), &summary); jsonErr != nil || summary.Event != "summary" || summary.OK ||
			summary.Error != err.Error() {
			t.Errorf("%s: wrote %q", url, out.String())
		}
	}
}

// brokenPipe fails from the nth write on.
type brokenPipe struct{ writes int }

func (w *brokenPipe) Write(p []byte) (int, error) {
	if w.writes--; w.writes < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func TestFailureToWriteIsReported(t *testing.T) {
	t.Parallel()
	o := testBroker(t)
	o.Out = &brokenPipe{writes: 5}
	if _, err := Run(t.Context(), o); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v, want %v", err, io.ErrClosedPipe)
	}
}
