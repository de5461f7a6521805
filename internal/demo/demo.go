package demo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Options says which broker the lesson runs on and how it is told.
type Options struct {
	// URL of the broker. Empty means amqp://guest:guest@localhost:5672/, which is
	// what an embedded broker behind Dial expects.
	URL string
	// Dial opens the transport; nil means TCP. Closing the connection it returns
	// must end reads and writes in progress, as that is how waiting is bounded.
	Dial func(network, addr string) (net.Conn, error)
	// Out receives the story; nil discards it.
	Out io.Writer
	// Kill kills the broker as a crash of its process would, and starts it again
	// with what it has on disk; connections are cut. Nil leaves the last step out.
	Kill func(ctx context.Context) error
	// Hold keeps publisher confirms back until Kill, as a disk would that is slow
	// in that moment: so the kill surely falls between publishes and their
	// confirms. It goes with Kill.
	Hold func()
	// JSON writes one JSON object per event and line instead of text.
	JSON bool
	// Color decorates text with terminal colours. Ignored with JSON.
	Color bool
	// Broker describes the broker in the first line. Empty means the product and
	// version the broker announces, and its address.
	Broker string

	limits   limits
	sabotage sabotage
}

// limits are the bounds of a run; zero fields mean the defaults.
type limits struct {
	connect  time.Duration // TCP, TLS and AMQP handshake together
	step     time.Duration // one step from its first to its last word
	patience time.Duration // how long a step waits for one thing that must happen
	cleanup  time.Duration // deleting everything at the end
}

func (l limits) withDefaults() limits {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&l.connect, 5*time.Second)
	set(&l.step, 15*time.Second)
	set(&l.patience, 5*time.Second)
	set(&l.cleanup, 5*time.Second)
	return l
}

// defaultURL is what a broker with its first user answers to.
const defaultURL = "amqp://guest:guest@localhost:5672/"

// lesson is one run of the demo.
type lesson struct {
	limits   limits
	sabotage sabotage
	kill     func(ctx context.Context) error
	hold     func()
	tell     *narrator
	dial     *dialer
	names    *names
	control  *link // declares, inspects; the steps open links of their own
	report   Report
}

// Run tells the lesson once. It returns an error if the broker cannot be reached
// or stops answering, if ctx ends, if something could not be deleted, or, as a
// [*MismatchError], if the numbers do not add up. The report holds whatever was
// counted until then.
func Run(ctx context.Context, o Options) (Report, error) {
	l, err := newLesson(o)
	if err != nil {
		return Report{}, err
	}
	started := time.Now()
	err = l.run(ctx)
	l.report.Elapsed = time.Since(started)
	l.tell.summary(&l.report, err)
	if err == nil {
		err = l.tell.failure()
	}
	return l.report, err
}

func newLesson(o Options) (*lesson, error) {
	if o.URL == "" {
		o.URL = defaultURL
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	prefix, err := randomPrefix()
	if err != nil {
		return nil, err
	}
	limits := o.limits.withDefaults()
	return &lesson{
		limits:   limits,
		sabotage: o.sabotage,
		kill:     o.Kill,
		hold:     o.Hold,
		tell:     &narrator{out: o.Out, json: o.JSON, color: o.Color && !o.JSON},
		dial:     &dialer{url: o.URL, dial: o.Dial, connectWithin: limits.connect},
		names:    &names{prefix: prefix, known: map[string]bool{}},
		report:   Report{Broker: o.Broker, Prefix: prefix},
	}, nil
}

// randomPrefix makes the names of two runs on one broker disjoint.
func randomPrefix() (string, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("choose a random prefix: %w", err)
	}
	return "warren-demo-" + hex.EncodeToString(b[:]) + ".", nil
}

// run connects, takes the steps, cleans up whatever happened, and judges.
func (l *lesson) run(ctx context.Context) error {
	control, err := l.dial.open(ctx)
	if err != nil {
		return err
	}
	l.control = control
	if l.report.Broker == "" {
		l.report.Broker = describe(control.conn, l.dial)
	}
	l.tell.header(l.report.Broker, l.report.Prefix, len(l.steps()))

	err = l.takeSteps(ctx)
	l.control.close() // a step may have replaced it
	control.close()
	err = errors.Join(err, l.cleanUp(ctx))
	l.report.addTotals()
	if err != nil {
		return err
	}
	if len(l.report.Mismatches) > 0 {
		return &MismatchError{Mismatches: l.report.Mismatches}
	}
	return nil
}

// takeSteps goes through the lesson. A mismatch does not end it: the steps share
// nothing, so the later ones still say something. An error does.
func (l *lesson) takeSteps(ctx context.Context) error {
	for i, st := range l.steps() {
		s := &stage{lesson: l, number: i + 1, step: st, ledger: &ledger{}}
		started := time.Now()
		err := s.play(ctx)
		l.report.Steps = append(l.report.Steps, StepResult{
			Number: s.number, Name: st.name, OK: err == nil && len(s.mismatches) == 0,
			Elapsed: time.Since(started), Tally: s.ledger.snapshot(),
		})
		l.report.Mismatches = append(l.report.Mismatches, s.mismatches...)
		if err != nil {
			return err
		}
	}
	return nil
}

// describe names a broker by what it announces and where it is.
func describe(conn *amqp.Connection, d *dialer) string {
	text := func(key string) string { s, _ := conn.Properties[key].(string); return s }
	name := text("product")
	if name == "" {
		name = "an AMQP 0-9-1 broker"
	}
	if v := text("version"); v != "" {
		name += " " + v
	}
	return name + " at " + d.shown()
}
