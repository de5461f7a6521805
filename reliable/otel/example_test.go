package otel_test

import (
	"context"
	"fmt"
	"slices"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/reliable"
	"github.com/warrenmq/warren/reliable/otel"
)

// Spans for sending and processing, and metrics, to the providers of the program.
func Example() {
	ctx := context.Background()
	embedded := broker.Embedded("")
	defer embedded.Shutdown(ctx)
	spans := tracetest.NewSpanRecorder() // in a program: an exporter
	telemetry, err := otel.New(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)), sdkmetric.NewMeterProvider())
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := reliable.Open(ctx, reliable.Via(embedded), reliable.Config{Observer: telemetry.Observer()})
	if err != nil {
		fmt.Println(err)
		return
	}
	orders := reliable.Queue{Name: "orders"}
	done := make(chan struct{})
	_, err = reliable.Consume(ctx, client, orders, func(ctx context.Context, m *reliable.Message[string]) error {
		close(done)
		return nil
	}, reliable.Use(telemetry.Middleware()))
	if err != nil {
		fmt.Println(err)
	}
	publisher, err := reliable.NewPublisher[string](ctx, client, reliable.ToQueue(orders))
	if err != nil {
		fmt.Println(err)
	}
	if err := publisher.Publish(ctx, "hello"); err != nil {
		fmt.Println(err)
	}
	<-done
	client.Close(ctx)
	var names []string
	for _, s := range spans.Ended() {
		names = append(names, s.Name())
	}
	slices.Sort(names)
	fmt.Println(names)
	// Output: [process orders send orders]
}
