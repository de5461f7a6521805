package reliable

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Mux chooses a handler by the message's type, so that one queue can carry several.
// A message of a type without a handler becomes a dead letter with ReasonNoHandler.
// Fill it with Handle before Consume.
type Mux struct {
	client   *Client
	handlers map[string]HandlerFunc
	err      error // the first mistake of Handle
}

// NewMux returns a Mux without handlers.
func NewMux(c *Client) *Mux { return &Mux{client: c, handlers: map[string]HandlerFunc{}} }

// Handle adds a handler for the messages of a type. An empty name stands for the
// name of the Go type, as publishers set it unless told otherwise. A second
// handler for a type is an error of Consume.
func Handle[T any](m *Mux, name string, handle Handler[T]) {
	if name == "" {
		name = reflect.TypeFor[T]().Name()
	}
	switch {
	case handle == nil:
		m.err = errors.Join(m.err, fmt.Errorf("reliable: the handler for type %q is nil", name))
	case m.handlers[name] != nil:
		m.err = errors.Join(m.err, fmt.Errorf("reliable: two handlers for type %q", name))
	default:
		m.handlers[name] = typed(m.client.config.Codec, handle)
	}
}

// Consume calls the handlers for the messages of a queue; see Consume.
func (m *Mux) Consume(ctx context.Context, from Queue, options ...ConsumeOption) (*Consumer, error) {
	switch {
	case m.err != nil:
		return nil, m.err
	case len(m.handlers) == 0:
		return nil, errors.New("reliable: the Mux has no handlers: add some with Handle before Consume")
	}
	handlers := maps.Clone(m.handlers)
	known := strings.Join(slices.Sorted(maps.Keys(handlers)), ", ")
	return consume(ctx, m.client, from, func(ctx context.Context, d *Delivery) error {
		if handle := handlers[d.Type]; handle != nil {
			return handle(ctx, d)
		}
		return &decision{verdict: toDead, reason: ReasonNoHandler, err: fmt.Errorf("no handler for messages of type %q, only for %s", d.Type, known)}
	}, options)
}
