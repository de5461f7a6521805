package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// dialer opens connections to one broker.
type dialer struct {
	url           string
	dial          func(network, addr string) (net.Conn, error) // nil = TCP
	connectWithin time.Duration
}

// link is a connection of the official client with one channel: the lesson declares
// with it and looks at the broker from outside. What takes part is a program.
type link struct {
	conn    *amqp.Connection
	ch      *amqp.Channel
	raw     net.Conn
	closing sync.Once

	mu      sync.Mutex
	unwatch func() bool // stops watching the context the link was opened with
}

// politeFor bounds the closing handshake of a connection; after it the transport
// is simply closed.
const politeFor = 500 * time.Millisecond

// open connects and opens a channel, within connectWithin. Once ctx ends the link
// is closed, so that no call on it hangs.
func (d *dialer) open(ctx context.Context) (*link, error) {
	l, err := d.handshake(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %w", d.shown(), d.explain(ctx, err))
	}
	l.mu.Lock()
	defer l.mu.Unlock() // if ctx has ended already, close waits for unwatch to be set
	l.unwatch = context.AfterFunc(ctx, l.close)
	return l, nil
}

func (d *dialer) handshake(parent context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(parent, d.connectWithin)
	defer cancel()
	var raw net.Conn
	unwatch := func() bool { return true }
	defer func() { unwatch() }() // before cancel
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName("warren demo")
	conn, err := amqp.DialConfig(d.url, amqp.Config{
		Heartbeat:  5 * time.Second,
		Properties: properties,
		Dial: func(network, addr string) (net.Conn, error) {
			var err error
			if raw, err = d.transport(ctx, network, addr); err != nil {
				return nil, err
			}
			// Cut rather than give the transport a deadline: the client clears
			// deadlines after the login, and opening a channel is still to come.
			unwatch = context.AfterFunc(ctx, func() { _ = raw.Close() })
			return raw, nil
		},
	})
	if err != nil {
		if raw != nil {
			_ = raw.Close() // after some failures the client leaves it open
		}
		return nil, silence(parent, ctx, err)
	}
	l := &link{conn: conn, raw: raw}
	if l.ch, err = conn.Channel(); err != nil {
		l.close()
		return nil, silence(parent, ctx, err)
	}
	return l, nil
}

// errNoAnswer is a bound that was reached.
var errNoAnswer = errors.New("no answer")

// silence tells errors that only follow from the bound ctx from all others.
func silence(parent, ctx context.Context, err error) error {
	if ctx.Err() != nil && parent.Err() == nil {
		return errNoAnswer
	}
	return err
}

func (d *dialer) transport(ctx context.Context, network, addr string) (net.Conn, error) {
	if d.dial != nil {
		return d.dial(network, addr)
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// explain turns a failure to connect into words without a password: URL errors
// quote the URL.
func (d *dialer) explain(ctx context.Context, err error) error {
	var bad *url.Error
	switch {
	case errors.As(err, &bad):
		return bad.Err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errNoAnswer):
		return fmt.Errorf("%w within %v", err, d.connectWithin)
	}
	return plain(err)
}

// plain shortens the errors of the network and of brokers to what helps a reader;
// the whole stays inside.
func plain(err error) error {
	var broker *amqp.Error
	var name *net.DNSError
	var number syscall.Errno
	switch {
	case errors.As(err, &broker):
		return &shortError{fmt.Sprintf("%s (%d)", broker.Reason, broker.Code), err}
	case errors.As(err, &name):
		return &shortError{name.Err, err}
	case errors.As(err, &number):
		return &shortError{number.Error(), err}
	}
	return err
}

type shortError struct {
	text  string
	whole error
}

func (e *shortError) Error() string { return e.text }
func (e *shortError) Unwrap() error { return e.whole }

// shown is the URL without its password; an address at least, or a hint, when it
// is not a URL at all.
func (d *dialer) shown() string {
	uri, err := amqp.ParseURI(d.url)
	if err != nil {
		return "the given URL"
	}
	shown := url.URL{Scheme: uri.Scheme, Host: net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port)), Path: "/"}
	if uri.Vhost != "/" {
		shown.Path += uri.Vhost
	}
	return shown.String()
}

// close ends the connection politely, but within politeFor. It may be called
// from any goroutine, and more than once.
func (l *link) close() {
	l.closing.Do(func() {
		l.mu.Lock()
		if l.unwatch != nil {
			l.unwatch()
		}
		l.mu.Unlock()
		hurry := time.AfterFunc(politeFor, func() { _ = l.raw.Close() })
		defer hurry.Stop()
		_ = l.conn.Close() // whatever it says, the connection is over
		_ = l.raw.Close()
	})
}
