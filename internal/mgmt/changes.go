package mgmt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/core/topology"
	"github.com/warrenmq/warren/internal/wire"
)

// change carries a change out. RabbitMQ reports the protocol's errors here without
// their codes.
func (q *request) change(vhost string, m wire.Method) error {
	err := q.api.Changes.Change(vhost, q.caller.name, m)
	var e *wire.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case wire.AccessRefused:
		return notAuthorised("Access refused.")
	case wire.NotFound:
		return &failure{http.StatusNotFound, "not_found", e.Text}
	}
	return badRequest(e.Text)
}

// done answers a change: 201 if it made something, else 204.
func (q *request) done(created bool) error {
	if !created {
		return q.noContent()
	}
	q.begun = true
	q.w.Header().Set("Content-Length", "0")
	q.w.WriteHeader(http.StatusCreated)
	return nil
}

// place is the virtual host of a change.
func (q *request) place() (string, error) {
	vhost, err := q.vhost(0)
	if err != nil && isMissing(err) {
		return "", &failure{http.StatusNotFound, "not_found", "vhost_not_found"}
	}
	return vhost, err
}

// options reads a body that may be missing.
func (q *request) options() (map[string]any, error) {
	raw, err := io.ReadAll(q.http.Body)
	if err != nil {
		return nil, &failure{http.StatusRequestEntityTooLarge, "bad_request", err.Error()}
	}
	parsed := map[string]any{}
	if len(raw) == 0 {
		return parsed, nil
	}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	if err := d.Decode(&parsed); err != nil || parsed == nil {
		return nil, badRequest("not_json")
	}
	return parsed, nil
}

// flag reads a member that is true or false, also in quotes, false if it is not
// there.
func flag(options map[string]any, name string) (bool, error) {
	switch v := options[name]; v {
	case true, "true":
		return true, nil
	case false, "false", nil:
		return false, nil
	default:
		return false, badRequest([]string{"not_boolean", fmt.Sprint(v)})
	}
}

func arguments(options map[string]any) (wire.Table, error) {
	switch v := options["arguments"].(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return tableOf(v, 1)
	case []any:
		if len(v) == 0 {
			return nil, nil // what PHP makes of an empty object
		}
	}
	return nil, badRequest("arguments has to be an object")
}

func textOf(options map[string]any, name, missing string) (string, error) {
	v, ok := options[name]
	if !ok {
		return missing, nil
	}
	s, isString := v.(string)
	if !isString || len(s) > 255 {
		return "", badRequest(name + " has to be a string of at most 255 bytes")
	}
	return s, nil
}

// declared are the members that queues and exchanges have in common.
type declared struct {
	durable, autoDelete bool
	args                wire.Table
}

// declaration is where a queue or an exchange is to be, and as what.
func (q *request) declaration() (vhost string, options map[string]any, d declared, err error) {
	if vhost, err = q.place(); err != nil {
		return
	}
	if options, err = q.options(); err != nil {
		return
	}
	if d.durable, err = flag(options, "durable"); err != nil {
		return
	}
	if d.autoDelete, err = flag(options, "auto_delete"); err != nil {
		return
	}
	d.args, err = arguments(options)
	return
}

func (q *request) putQueue() error {
	vhost, options, d, err := q.declaration()
	if err != nil {
		return err
	}
	name := q.params[1]
	if name == "" || len(name) > 255 {
		return badRequest("a queue's name has 1 to 255 bytes")
	}
	there := q.api.Lookup.Queue(vhost, name) != nil
	if there && len(options) == 0 {
		return q.noContent() // as it is
	}
	if err := q.change(vhost, &wire.QueueDeclare{Queue: name, Durable: d.durable, AutoDelete: d.autoDelete, Arguments: d.args}); err != nil {
		return err
	}
	return q.done(!there)
}

func (q *request) deleteQueue() error {
	h, err := q.queue()
	if err != nil {
		return err
	}
	values := q.http.URL.Query()
	err = q.change(q.params[0], &wire.QueueDelete{Queue: h.Name(),
		IfUnused: values.Get("if-unused") == "true", IfEmpty: values.Get("if-empty") == "true"})
	if err != nil {
		return err
	}
	return q.noContent()
}

func (q *request) putExchange() error {
	vhost, options, d, err := q.declaration()
	if err != nil {
		return err
	}
	internal, err := flag(options, "internal")
	if err != nil {
		return err
	}
	kind, err := textOf(options, "type", string(exchange.Direct))
	if err != nil {
		return err
	}
	name := exchangeName(q.params[1])
	if len(name) > 255 {
		return badRequest("an exchange's name has at most 255 bytes")
	}
	there := q.api.Topology.Exchange(vhost, name) != nil
	err = q.change(vhost, &wire.ExchangeDeclare{Exchange: name, Type: kind, Durable: d.durable, AutoDelete: d.autoDelete,
		Internal: internal, Arguments: d.args})
	if err != nil {
		return err
	}
	return q.done(!there)
}

func (q *request) deleteExchange() error {
	vhost, err := q.vhost(0)
	if err != nil {
		return err
	}
	name := exchangeName(q.params[1])
	if q.api.Topology.Exchange(vhost, name) == nil {
		return errNotFound()
	}
	if err := q.change(vhost, &wire.ExchangeDelete{Exchange: name, IfUnused: q.http.URL.Query().Get("if-unused") == "true"}); err != nil {
		return err
	}
	return q.noContent()
}

// postBinding makes a binding of a pair; the Location says how to name it.
func postBinding(kind exchange.DestKind) func(*request) error {
	return func(q *request) error {
		vhost, which, err := q.pair(kind)
		if err != nil {
			return err
		}
		options, err := q.options()
		if err != nil {
			return err
		}
		key, err := textOf(options, "routing_key", "")
		if err != nil {
			return err
		}
		args, err := arguments(options)
		if err != nil {
			return err
		}
		var m wire.Method = &wire.QueueBind{Queue: which.To, Exchange: which.From, RoutingKey: key, Arguments: args}
		if kind == exchange.Exchange {
			m = &wire.ExchangeBind{Destination: which.To, Source: which.From, RoutingKey: key, Arguments: args}
		}
		if err := q.change(vhost, m); err != nil {
			return err
		}
		b := topology.Binding{Key: key, Args: args}
		q.w.Header().Set("Location", url.PathEscape(which.To)+"/"+propertiesKey(&b))
		return q.done(true)
	}
}

func deleteBinding(kind exchange.DestKind) func(*request) error {
	return func(q *request) error {
		b, err := q.binding(kind)
		if err != nil {
			return err
		}
		var m wire.Method = &wire.QueueUnbind{Queue: b.Dest, Exchange: b.Source, RoutingKey: b.Key, Arguments: b.Args}
		if kind == exchange.Exchange {
			m = &wire.ExchangeUnbind{Destination: b.Dest, Source: b.Source, RoutingKey: b.Key, Arguments: b.Args}
		}
		if err := q.change(b.vhost, m); err != nil {
			return err
		}
		return q.noContent()
	}
}

// closeConnection closes a client's connection. The X-Reason header is what the
// client gets to read.
func (q *request) closeConnection() error {
	h, err := q.connection()
	if err != nil {
		return err
	}
	reason := q.http.Header.Get("X-Reason")
	if reason == "" {
		reason = "Closed via management plugin"
	}
	if !q.api.CloseConnection(h.Name(), reason[:min(len(reason), 200)]) {
		return errNotFound()
	}
	return q.noContent()
}
