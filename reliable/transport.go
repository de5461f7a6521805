package reliable

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable/internal/link"
)

// Dialer opens transport connections to a broker. *net.Dialer is one,
// *broker.Broker, what broker.Embedded returns, and *brokertest.Broker.
type Dialer interface {
	// DialContext is that of net.Dialer. ctx bounds the opening only.
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// Transport says where the broker is.
type Transport struct {
	// URLs are the AMQP URLs of the nodes of one cluster, "amqp://user:password@host:5672/vhost"
	// or "amqps://…". The first connection tries them in order, later ones in any.
	URLs []string
	// Dialer opens the connections; nil means TCP.
	Dialer Dialer
	// TLS is for amqps URLs; nil means the system's certificates.
	TLS *tls.Config

	err error // why it is no transport: Open returns it
}

// embeddedURL is what a Dialer without a URL is asked for. The user is the one
// that a broker has by default.
const embeddedURL = "amqp://guest:guest@embedded/"

// ToURL is the transport to a broker at a URL, or to a cluster at several. A URL
// may also be a list of them, separated by commas.
func ToURL(urls ...string) Transport {
	var t Transport
	for _, list := range urls {
		t.URLs = append(t.URLs, splitURLs(list)...)
	}
	t.err = checkURLs(t.URLs)
	return t
}

// Via is the transport to the broker that d connects to, as user guest: an
// embedded one, or one of a test.
func Via(d Dialer) Transport {
	if d == nil {
		return Transport{err: errors.New("reliable: Via wants a dialer, not nil")}
	}
	return Transport{URLs: []string{embeddedURL}, Dialer: d}
}

// splitURLs cuts a list at the commas in front of a scheme: a comma may also
// stand in a password.
func splitURLs(list string) (urls []string) {
	for part := range strings.SplitSeq(list, ",") {
		trimmed := strings.TrimSpace(part)
		isURL := strings.HasPrefix(trimmed, "amqp://") || strings.HasPrefix(trimmed, "amqps://")
		switch {
		case isURL || len(urls) == 0:
			urls = append(urls, trimmed)
		default:
			urls[len(urls)-1] += "," + part
		}
	}
	return urls
}

// checkURLs says which URL is none, without quoting it: it may hold a password.
func checkURLs(urls []string) error {
	if len(urls) == 0 {
		return errors.New("reliable: no AMQP URL is given")
	}
	for i, u := range urls {
		if _, err := amqp.ParseURI(u); err != nil {
			return fmt.Errorf(`reliable: AMQP URL %d of %d is not like "amqp://user:password@host:5672/vhost" or "amqps://…"`, i+1, len(urls))
		}
	}
	return nil
}

// dial is the transport as the supervision wants it.
func (t *Transport) dial() link.DialFunc {
	if t.Dialer == nil {
		return nil
	}
	return t.Dialer.DialContext
}
