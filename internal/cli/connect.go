package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/spf13/cobra"
)

const (
	urlEnv     = "AMQP_URL"
	defaultURL = "amqp://guest:guest@localhost:5672/"

	// endGrace is how long an interrupted command waits for the broker to
	// answer what is under way.
	endGrace = 5 * time.Second
)

// target says which broker a client command talks to, and how.
type target struct {
	url         string
	timeout     time.Duration
	tlsCA       string
	tlsCert     string
	tlsKey      string
	tlsName     string
	tlsInsecure bool
}

func (t *target) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&t.url, "url", "u", "", "broker to connect to, amqp:// or amqps:// (default $AMQP_URL, else "+defaultURL+")")
	t.addConnectionFlags(cmd)
}

// addConnectionFlags adds all but --url.
func (t *target) addConnectionFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&t.timeout, "timeout", 10*time.Second, "time to connect and log in")
	f.StringVar(&t.tlsCA, "tls-ca", "", "file with the certificates (PEM) to trust instead of the system's")
	f.StringVar(&t.tlsCert, "tls-cert", "", "file with a client certificate (PEM)")
	f.StringVar(&t.tlsKey, "tls-key", "", "file with the key (PEM) of --tls-cert")
	f.StringVar(&t.tlsName, "tls-server-name", "", "name to expect in the server's certificate, if not the host of the URL")
	f.BoolVar(&t.tlsInsecure, "tls-insecure", false, "do not check the server's certificate (for tests)")
}

// client is an open connection with one channel.
type client struct {
	conn       *amqp.Connection
	ch         *amqp.Channel
	address    string           // for people, without the password
	connClosed chan *amqp.Error // holds why, once the connection has ended
	chanClosed chan *amqp.Error
}

// resolve decides which broker is meant, and how TLS is set up for it.
func (t *target) resolve(cmd *cobra.Command) (raw string, uri amqp.URI, tlsConfig *tls.Config, err error) {
	if raw, uri, err = t.address(cmd); err == nil {
		tlsConfig, err = t.tlsConfig(cmd, uri.Scheme == "amqps", "amqps:// URL, this one is "+uri.Scheme+"://")
	}
	return raw, uri, tlsConfig, err
}

// address decides which broker is meant.
func (t *target) address(cmd *cobra.Command) (raw string, uri amqp.URI, err error) {
	place := "--url"
	raw = t.url
	if raw == "" && cmd.Flags().Changed("url") {
		return "", uri, usagef(cmd, "--url is empty") // a variable forgotten in a script must not choose another broker
	}
	if raw == "" {
		raw, place = os.Getenv(urlEnv), "$"+urlEnv
	}
	if raw == "" {
		raw = defaultURL
	}
	uri, err = amqp.ParseURI(raw)
	if err != nil {
		// The parser's own text repeats the URL, password and all.
		return "", uri, usagef(cmd, "%s is not an AMQP URL; want amqp://user:password@host:5672/vhost (or amqps://), with special characters percent-encoded", place)
	}
	return raw, uri, nil
}

// open connects, logs in and opens a channel.
func (t *target) open(cmd *cobra.Command) (*client, error) {
	raw, uri, tlsConfig, err := t.resolve(cmd)
	if err != nil {
		return nil, err
	}
	address := displayAddress(uri)
	cfg := amqp.Config{Properties: amqp.NewConnectionProperties(), TLSClientConfig: tlsConfig}
	cfg.Properties.SetClientConnectionName(cmd.CommandPath())
	cfg.Dial = func(network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(cmd.Context(), t.timeout)
		defer cancel()
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return conn, conn.SetDeadline(time.Now().Add(t.timeout)) // the client library lifts it after the login
	}
	conn, err := amqp.DialConfig(raw, cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %w", address, t.dialError(err))
	}
	c := &client{conn: conn, address: address, connClosed: conn.NotifyClose(make(chan *amqp.Error, 1))}
	if err := c.openChannel(); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// openChannel replaces the channel, which any refused operation closes.
func (c *client) openChannel() error {
	ch, err := c.conn.Channel()
	if err != nil {
		return c.explain(err)
	}
	c.ch = ch
	c.chanClosed = ch.NotifyClose(make(chan *amqp.Error, 1))
	return nil
}

// close ends the connection; a broker that does not answer is not waited for.
func (c *client) close() {
	_ = c.conn.CloseDeadline(time.Now().Add(5 * time.Second)) // nothing is left to lose or to tell
}

// displayAddress shows a broker without password and query.
func displayAddress(uri amqp.URI) string {
	u := url.URL{
		Scheme: uri.Scheme, User: url.User(uri.Username), Path: "/",
		Host: net.JoinHostPort(uri.Host, fmt.Sprint(uri.Port)),
	}
	if uri.Vhost == "/" {
		return u.String()
	}
	return u.String() + url.PathEscape(uri.Vhost)
}

// dialError shortens what went wrong to what helps.
func (t *target) dialError(err error) error {
	var errno syscall.Errno
	var dns *net.DNSError
	var timeout net.Error
	var server *amqp.Error
	var authority x509.UnknownAuthorityError
	switch {
	case errors.Is(err, amqp.ErrCredentials):
		return errors.New("the login was refused (wrong user or password, or this user may not log in from here)")
	case errors.As(err, &server):
		return errors.New(amqpText(server))
	case errors.As(err, &dns):
		return errors.New(dns.Err)
	case errors.As(err, &errno):
		return errors.New(errno.Error())
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("no answer within %s", t.timeout)
	case errors.As(err, &authority):
		return fmt.Errorf("%w (name a file with --tls-ca to trust it)", err)
	}
	return err
}

// tlsConfig is nil if the URL says all there is to say. The flags are for a URL
// with TLS; without says what it would have to be.
func (t *target) tlsConfig(cmd *cobra.Command, isTLS bool, without string) (*tls.Config, error) {
	if t.tlsCA == "" && t.tlsCert == "" && t.tlsKey == "" && t.tlsName == "" && !t.tlsInsecure {
		return nil, nil
	}
	if !isTLS {
		return nil, usagef(cmd, "the --tls flags need an %s", without)
	}
	if (t.tlsCert == "") != (t.tlsKey == "") {
		return nil, usagef(cmd, "--tls-cert and --tls-key need each other")
	}
	cfg := &tls.Config{ServerName: t.tlsName, InsecureSkipVerify: t.tlsInsecure}
	if t.tlsCA != "" {
		pem, err := os.ReadFile(t.tlsCA)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--tls-ca: %s has no certificate in PEM form", t.tlsCA)
		}
	}
	if t.tlsCert != "" {
		pair, err := tls.LoadX509KeyPair(t.tlsCert, t.tlsKey)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// amqpText is what a broker said, with its code.
func amqpText(e *amqp.Error) string { return fmt.Sprintf("%s (%d)", e.Reason, e.Code) }

// explain gives an error of the client library the broker's own words. When the
// library only knows that something is closed, the reason is in the close
// notifications.
func (c *client) explain(err error) error {
	var server *amqp.Error
	if !errors.As(err, &server) {
		return fmt.Errorf("%s: %w", c.address, err)
	}
	if !server.Server {
		if why := c.whyClosed(); why != nil {
			return why
		}
		return fmt.Errorf("lost the connection to %s: %s", c.address, strings.TrimSuffix(server.Reason, "\n"))
	}
	return errors.New(amqpText(server))
}

// whyClosed tells why channel or connection ended, nil if neither has.
func (c *client) whyClosed() error {
	for _, closed := range []chan *amqp.Error{c.chanClosed, c.connClosed} {
		select {
		case why := <-closed:
			if why != nil && why.Server {
				return errors.New(amqpText(why))
			}
			if why != nil {
				return fmt.Errorf("lost the connection to %s: %s", c.address, why.Reason)
			}
		default:
		}
	}
	return nil
}

// withClient runs a short exchange with the broker; the end of the command's
// context cuts it off.
func (t *target) withClient(cmd *cobra.Command, do func(*client) error) error {
	c, err := t.open(cmd)
	if err != nil {
		return err
	}
	defer c.close()
	stop := context.AfterFunc(cmd.Context(), func() {
		_ = c.conn.CloseDeadline(time.Now()) // the failing call tells the rest
	})
	defer stop()
	if err := do(c); err != nil {
		if cmd.Context().Err() != nil {
			return errors.New("interrupted")
		}
		return err
	}
	return nil
}
