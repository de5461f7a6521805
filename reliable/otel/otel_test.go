package otel_test

import (
	"context"
	"errors"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/reliable"
	"github.com/warrenmq/warren/reliable/otel"
)

func TestTelemetry(t *testing.T) {
	b := brokertest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	spans := tracetest.NewSpanRecorder()
	reader := sdkmetric.NewManualReader()
	telemetry, err := otel.New(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)), sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := reliable.Open(ctx, reliable.Via(b), reliable.Config{Observer: telemetry.Observer()})
	if err != nil {
		t.Fatal(err)
	}
	orders := reliable.Queue{Name: "orders"}
	done := make(chan struct{})
	_, err = reliable.Consume(ctx, c, orders, func(ctx context.Context, m *reliable.Message[string]) error {
		if m.Attempt == 1 {
			return errors.New("once more")
		}
		close(done)
		return nil
	}, reliable.Use(telemetry.Middleware()), reliable.Retry(reliable.RetryPolicy{Backoff: reliable.Schedule(0)}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := reliable.NewPublisher[string](ctx, c, reliable.ToQueue(orders))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(ctx, "hello"); err != nil {
		t.Fatal(err)
	}
	<-done
	if err := c.Close(ctx); err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	var sent sdktrace.ReadOnlySpan
	for _, s := range spans.Ended() {
		names[s.Name()]++
		if s.Name() == "send orders" {
			sent = s
		}
	}
	if names["send orders"] != 1 || names["process orders"] != 2 {
		t.Fatalf("spans: %v", names)
	}
	for _, s := range spans.Ended() {
		if s.Name() == "process orders" && (len(s.Links()) != 1 || s.Links()[0].SpanContext.SpanID() != sent.SpanContext().SpanID()) {
			t.Errorf("a processing span is not linked to the sending one: %v", s.Links())
		}
	}
	var data metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &data); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, point := range d.DataPoints {
					got[m.Name] += int(point.Value)
				}
			case metricdata.Histogram[float64]:
				for _, point := range d.DataPoints {
					got[m.Name] += int(point.Count)
				}
			}
		}
	}
	for name, want := range map[string]int{"messaging.client.operation.duration": 1, "messaging.client.sent.messages": 1,
		"messaging.process.duration": 2, "messaging.client.consumed.messages": 2, "warren.reliable.settled": 2} {
		if got[name] != want {
			t.Errorf("%s counts %d, expected %d", name, got[name], want)
		}
	}
}
