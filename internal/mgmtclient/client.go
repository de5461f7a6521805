package mgmtclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// maxAnswerBytes bounds one answer: a list of 100,000 bindings takes 30 MiB.
	maxAnswerBytes = 64 << 20
	// maxErrorBytes is how much of an answer that is an error is read.
	maxErrorBytes = 64 << 10
	// pageItems is the size of a page, the largest that RabbitMQ has.
	pageItems = 500
	// maxPages bounds a list, so that a server whose pages never end is noticed.
	maxPages       = 2000
	defaultTimeout = 10 * time.Second
)

// Config says where an API is.
type Config struct {
	// URL is "http://host:15672" or "https://…", with user and password or without;
	// a path in front of "/api" may follow.
	URL string
	// User and Password are for a URL without them.
	User, Password string
	// Timeout bounds each request with its answer; 0 means 10 s.
	Timeout time.Duration
	TLS     *tls.Config
}

// Client reads from one API. Make it with New.
type Client struct {
	base           url.URL
	user, password string
	timeout        time.Duration
	http           *http.Client
}

// New makes a client and asks nothing yet. The error says what is wrong with the
// URL, without quoting it: it may hold a password.
func New(c Config) (*Client, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("not the URL of a management API; want http://user:password@host:15672 (or https://), with special characters percent-encoded")
	}
	cl := &Client{base: *u, user: c.User, password: c.Password, timeout: c.Timeout}
	if u.User != nil {
		cl.user = u.User.Username()
		cl.password, _ = u.User.Password()
	}
	if cl.timeout <= 0 {
		cl.timeout = defaultTimeout
	}
	cl.base.User, cl.base.RawQuery, cl.base.Fragment = nil, "", ""
	cl.base.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/api")
	cl.http = &http.Client{Transport: &http.Transport{TLSClientConfig: c.TLS, Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1}}
	return cl, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Address is the API for people, without password.
func (c *Client) Address() string { return c.base.String() }

// StatusError is an answer that is no success.
type StatusError struct {
	Address string
	Path    string // what was asked for, below /api
	Code    int
	Reason  string // the server's words
	user    string
}

func (e *StatusError) Error() string {
	switch e.Code {
	case http.StatusUnauthorized:
		return fmt.Sprintf("%s refuses the login of user %q: wrong user or password, or the user has no tag such as monitoring, or may not log in from here (%s)", e.Address, e.user, e.Reason)
	case http.StatusNotFound:
		return fmt.Sprintf("%s has no /api%s: the queue or virtual host is not there (%s)", e.Address, e.Path, e.Reason)
	}
	return fmt.Sprintf("%s answers %d: %s", e.Address, e.Code, e.Reason)
}

// Path joins the segments of a path, which are escaped.
func Path(segments ...string) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

// do asks, and decodes the answer into out.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("the request cannot be written: %w", err)
		}
		body = bytes.NewReader(text)
	}
	address := c.base.String() + "/api" + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Address(), err)
	}
	r.SetBasicAuth(c.user, c.password)
	r.Header.Set("Content-Type", "application/json")
	answer, err := c.http.Do(r)
	if err != nil {
		return c.explain(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return c.failure(path, answer)
	}
	limited := &io.LimitedReader{R: answer.Body, N: maxAnswerBytes + 1}
	d := json.NewDecoder(limited)
	if err := d.Decode(out); err != nil {
		var syntax *json.SyntaxError
		switch {
		case limited.N <= 0:
			return fmt.Errorf("%s: the answer to %s is longer than %d MiB", c.Address(), path, maxAnswerBytes>>20)
		case errors.As(err, &syntax):
			return fmt.Errorf("%s is no management API: what it answers to /api%s is not JSON", c.Address(), path)
		}
		return c.explain(fmt.Errorf("the answer to /api%s cannot be read: %w", path, err))
	}
	return nil
}

// failure reads why a request failed.
func (c *Client) failure(path string, answer *http.Response) error {
	e := &StatusError{Address: c.Address(), Path: path, Code: answer.StatusCode, Reason: http.StatusText(answer.StatusCode), user: c.user}
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxErrorBytes)) // what came is enough
	var said struct {
		Reason any `json:"reason"`
	}
	switch err := json.Unmarshal(text, &said); {
	case err == nil && said.Reason != nil:
		e.Reason = fmt.Sprint(said.Reason)
	case err != nil && answer.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s is no management API: it has no /api. Is the port that of AMQP or of something else, or is the plugin rabbitmq_management off?", c.Address())
	}
	return e
}

// explain shortens what went wrong below HTTP to what helps.
func (c *Client) explain(err error) error {
	var errno syscall.Errno
	var dns *net.DNSError
	var timeout net.Error
	text := err.Error()
	var in *url.Error
	if errors.As(err, &in) {
		text = in.Err.Error()
	}
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%s: no answer within %v", c.Address(), c.timeout)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("cannot connect to %s: connection refused. On RabbitMQ the management plugin has to be on (rabbitmq-plugins enable rabbitmq_management)", c.Address())
	case errors.As(err, &dns):
		return fmt.Errorf("cannot connect to %s: %s", c.Address(), dns.Err)
	case errors.As(err, &errno):
		return fmt.Errorf("cannot connect to %s: %w", c.Address(), errno)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s ended the connection without an answer: is it a management API?", c.Address())
	case strings.Contains(text, "malformed HTTP"):
		return fmt.Errorf("%s is no management API: it does not speak HTTP (15672 is its usual port, not that of AMQP)", c.Address())
	}
	return fmt.Errorf("%s: %s", c.Address(), text)
}

func (c *Client) get(ctx context.Context, path string, out any) error {
	return c.do(ctx, http.MethodGet, path, nil, nil, out)
}

// paged reads a list page by page; a server that has no pages of it answers with
// all at once.
func paged[T any](ctx context.Context, c *Client, path string) ([]T, error) {
	var all []T
	for page := 1; page <= maxPages; page++ {
		var answer json.RawMessage
		query := url.Values{"page": {strconv.Itoa(page)}, "page_size": {strconv.Itoa(pageItems)}}
		if err := c.do(ctx, http.MethodGet, path, query, nil, &answer); err != nil {
			var status *StatusError
			if page > 1 && errors.As(err, &status) && status.Code == http.StatusBadRequest {
				return all, nil // the list has become shorter meanwhile
			}
			return nil, err
		}
		if bytes.HasPrefix(answer, []byte("[")) {
			return all, decode(c, path, answer, &all)
		}
		var one struct {
			Items []T `json:"items"`
			Pages int `json:"page_count"`
		}
		if err := decode(c, path, answer, &one); err != nil {
			return nil, err
		}
		all = append(all, one.Items...)
		if page >= one.Pages {
			return all, nil
		}
	}
	return nil, fmt.Errorf("%s: the list at /api%s has more than %d items", c.Address(), path, maxPages*pageItems)
}

func decode(c *Client, path string, answer json.RawMessage, out any) error {
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s: what it answers to /api%s is not what a management API answers: %w", c.Address(), path, err)
	}
	return nil
}
