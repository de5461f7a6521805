package reliable_test

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/reliable"
)

// TestEndurance looks for what stays behind: goroutines and memory, after many lost
// connections with messages on their way. WARREN_TEST_RECONNECTS is how many, 100
// messages each; 10000 take some minutes.
func TestEndurance(t *testing.T) {
	reconnects := 50
	if text := os.Getenv("WARREN_TEST_RECONNECTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 10 {
			t.Fatalf("WARREN_TEST_RECONNECTS is %q, not a number from 10 on", text)
		}
		reconnects = n
	}
	const each = 100
	b := brokertest.New(t)
	c := open(t, b, reliable.Config{Logger: slog.New(slog.DiscardHandler)})
	p := publisher[order](t, c, reliable.ToQueue(orders), reliable.Window(50))
	var handled atomic.Int64
	consume(t, c, orders, func(context.Context, *reliable.Message[order]) error {
		handled.Add(1)
		return nil
	}, reliable.Concurrency(4))
	round := func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		var receipts []*reliable.Receipt
		for i := range each {
			if i == each/2 {
				b.CutConnections()
			}
			if i%10 == 0 {
				if err := p.Publish(ctx, order{i}); err != nil {
					t.Fatal(err)
				}
				continue
			}
			r, err := p.PublishAsync(ctx, order{i})
			if err != nil {
				t.Fatal(err)
			}
			receipts = append(receipts, r)
		}
		for _, r := range receipts {
			if err := r.Wait(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
	// look waits for rest and returns what is there then.
	look := func() (goroutines int, heapBytes int64) {
		ch := plain(t, b) // the next cut ends it
		until(t, "the queue is empty", func() bool { return count(t, ch, "orders") == 0 })
		last := -1
		until(t, "goroutines have ended", func() bool {
			before := last
			runtime.GC()
			last = runtime.NumGoroutine()
			return last == before
		})
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return last, int64(m.HeapAlloc)
	}
	var goroutines int
	var heapBytes int64
	for i := range reconnects {
		round()
		if (i+1)%(reconnects/10) != 0 {
			continue
		}
		g, h := look()
		t.Logf("after %d reconnects and %d messages, %d of them handled: %d goroutines, %.2f MB on the heap", i+1, (i+1)*each, handled.Load(), g, float64(h)/1e6)
		if goroutines == 0 {
			goroutines, heapBytes = g, h
		}
		const slackGoroutines, slackBytes = 20, 8 << 20 // the broker keeps chunks of 1 MiB for use again
		if g > goroutines+slackGoroutines {
			t.Fatalf("%d goroutines, %d after a tenth of the reconnects", g, goroutines)
		}
		if h > heapBytes+slackBytes {
			t.Fatalf("%d bytes on the heap, %d after a tenth of the reconnects", h, heapBytes)
		}
	}
	if handled.Load() < int64(reconnects*each) {
		t.Errorf("%d of %d messages were handled", handled.Load(), reconnects*each)
	}
}
