// Package otel reports what package reliable does as OpenTelemetry traces and
// metrics, by the semantic conventions for messaging and for RabbitMQ (in
// development, as of version 1.34 of the conventions).
//
//	telemetry, err := otel.New(tracerProvider, meterProvider)
//	client, err := reliable.Open(ctx, t, reliable.Config{Observer: telemetry.Observer()})
//	reliable.Consume(ctx, client, orders, handle, reliable.Use(telemetry.Middleware()))
//
// The context of the sending span travels in the header traceparent (W3C trace
// context), also through retries and dead letters. A processing span is a root of
// its own, linked to the sending one, because a message may be handled long after
// and more than once.
//
// What must hold: nothing is looked up by name per message, and message bodies are
// never recorded. All methods may be called from any goroutine.
package otel

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/warrenmq/warren/reliable"
)

// scope is the instrumentation scope of spans and metrics.
const scope = "github.com/warrenmq/warren/reliable"

// Telemetry makes spans and metrics. Make it with New.
type Telemetry struct {
	tracer     trace.Tracer
	propagator propagation.TraceContext

	operations metric.Float64Histogram // messaging.client.operation.duration
	process    metric.Float64Histogram // messaging.process.duration
	sent       metric.Int64Counter     // messaging.client.sent.messages
	consumed   metric.Int64Counter     // messaging.client.consumed.messages
	settled    metric.Int64Counter     // warren.reliable.settled
}

// New takes the providers to report to. The error is that of the meter.
func New(traces trace.TracerProvider, meters metric.MeterProvider) (*Telemetry, error) {
	meter := meters.Meter(scope)
	t := &Telemetry{tracer: traces.Tracer(scope)}
	var errs [5]error
	t.operations, errs[0] = meter.Float64Histogram("messaging.client.operation.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from publishing a message until the broker has confirmed it"))
	t.process, errs[1] = meter.Float64Histogram("messaging.process.duration", metric.WithUnit("s"),
		metric.WithDescription("Time that a handler took"))
	t.sent, errs[2] = meter.Int64Counter("messaging.client.sent.messages", metric.WithUnit("{message}"),
		metric.WithDescription("Messages that were published"))
	t.consumed, errs[3] = meter.Int64Counter("messaging.client.consumed.messages", metric.WithUnit("{message}"),
		metric.WithDescription("Messages that were delivered to a handler"))
	t.settled, errs[4] = meter.Int64Counter("warren.reliable.settled", metric.WithUnit("{message}"),
		metric.WithDescription("What became of deliveries"))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("otel: %w", err)
	}
	return t, nil
}

// destination is the name by the conventions for RabbitMQ: exchange and routing
// key; the queue alone for the default exchange.
func destination(exchange, key string) string {
	switch {
	case exchange == "":
		return key
	case key == "":
		return exchange
	}
	return exchange + ":" + key
}

var (
	system  = attribute.String("messaging.system", "rabbitmq")
	send    = attribute.String("messaging.operation.name", "send")
	process = attribute.String("messaging.operation.name", "process")
)

// Observer is for reliable.Config.
func (t *Telemetry) Observer() reliable.Observer {
	return reliable.Observer{Publish: t.publish, Settled: t.count}
}

func (t *Telemetry) publish(ctx context.Context, p *reliable.Publishing) func(error) {
	name := destination(p.Exchange, p.Key)
	begun := time.Now()
	ctx, span := t.tracer.Start(ctx, "send "+name, trace.WithSpanKind(trace.SpanKindProducer), trace.WithTimestamp(begun), trace.WithAttributes(
		system, send, attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.name", name), attribute.String("messaging.rabbitmq.destination.routing_key", p.Key),
		attribute.String("messaging.message.id", p.ID), attribute.Int("messaging.message.body.size", p.BodyBytes)))
	t.propagator.Inject(ctx, carrier(p.Headers))
	return func(err error) {
		attributes := []attribute.KeyValue{system, send, attribute.String("messaging.destination.name", name)}
		if err != nil {
			kind := errorType(err)
			attributes = append(attributes, kind)
			span.SetAttributes(kind)
			span.SetStatus(codes.Error, err.Error())
		}
		set := metric.WithAttributes(attributes...)
		t.operations.Record(ctx, time.Since(begun).Seconds(), set)
		t.sent.Add(ctx, 1, set)
		span.End()
	}
}

// errorType is a word for an error, of which there are few.
func errorType(err error) attribute.KeyValue {
	kind := "_OTHER"
	for _, known := range [...]struct {
		err  error
		word string
	}{
		{reliable.ErrUnroutable, "unroutable"}, {reliable.ErrNacked, "nacked"}, {reliable.ErrBlocked, "blocked"},
		{reliable.ErrClosed, "closed"}, {reliable.ErrUnconfirmed, "unconfirmed"}, {context.DeadlineExceeded, "timeout"},
	} {
		if errors.Is(err, known.err) {
			kind = known.word
			break
		}
	}
	return attribute.String("error.type", kind)
}

// Middleware is for reliable.Use.
func (t *Telemetry) Middleware() reliable.Middleware {
	return func(next reliable.HandlerFunc) reliable.HandlerFunc {
		return func(ctx context.Context, d *reliable.Delivery) error {
			begun := time.Now()
			origin := trace.SpanContextFromContext(t.propagator.Extract(context.Background(), carrier(d.Headers)))
			ctx, span := t.tracer.Start(ctx, "process "+d.Queue, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithNewRoot(),
				trace.WithTimestamp(begun), trace.WithLinks(trace.Link{SpanContext: origin}), trace.WithAttributes(
					system, process, attribute.String("messaging.operation.type", "process"),
					attribute.String("messaging.destination.name", d.Queue), attribute.String("messaging.rabbitmq.destination.routing_key", d.Key),
					attribute.String("messaging.message.id", d.ID), attribute.Int("messaging.message.body.size", len(d.Raw)),
					attribute.Int("warren.reliable.attempt", d.Attempt)))
			defer span.End()
			err := next(ctx, d)
			attributes := []attribute.KeyValue{system, process, attribute.String("messaging.destination.name", d.Queue)}
			if err != nil {
				kind := errorType(err)
				attributes = append(attributes, kind)
				span.SetAttributes(kind)
				span.SetStatus(codes.Error, err.Error())
			}
			set := metric.WithAttributes(attributes...)
			t.process.Record(ctx, time.Since(begun).Seconds(), set)
			t.consumed.Add(ctx, 1, set)
			return err
		}
	}
}

// count counts what became of a delivery: retries, dead letters, duplicates.
func (t *Telemetry) count(d *reliable.Delivery, o reliable.Outcome) {
	t.settled.Add(context.Background(), 1, metric.WithAttributes(system,
		attribute.String("messaging.destination.name", d.Queue), attribute.String("warren.reliable.outcome", string(o))))
}

// carrier lets a propagator read and write headers.
type carrier amqp.Table

// Get implements propagation.TextMapCarrier.
func (c carrier) Get(name string) string { text, _ := c[name].(string); return text }

// Set implements propagation.TextMapCarrier.
func (c carrier) Set(name, value string) { c[name] = value }

// Keys implements propagation.TextMapCarrier.
func (c carrier) Keys() []string {
	names := make([]string, 0, len(c))
	for name := range c {
		names = append(names, name)
	}
	return names
}
