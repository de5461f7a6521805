package reliabletest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/warrenmq/warren/reliable"
	"github.com/warrenmq/warren/reliable/reliabletest"
)

// Order and Parcel are what the examples are about; orders and parcels their queues.
type (
	Order  struct{ ID int }
	Parcel struct{ Order int }
)

var (
	orders  = reliable.Queue{Name: "orders"}
	parcels = reliable.Queue{Name: "parcels"}
)

// ship is the program under test: it makes a parcel of each order, if the carrier
// answers.
func ship(c *reliable.Client, carrier func() error) error {
	ctx := context.Background()
	out, err := reliable.NewPublisher[Parcel](ctx, c, reliable.ToQueue(parcels))
	if err != nil {
		return err
	}
	_, err = reliable.Consume(ctx, c, orders, func(ctx context.Context, m *reliable.Message[Order]) error {
		if m.Body.ID < 0 {
			return reliable.Permanent(fmt.Errorf("no order has the number %d", m.Body.ID))
		}
		if err := carrier(); err != nil {
			return err
		}
		return out.Publish(ctx, Parcel{m.Body.ID}, reliable.ID("parcel-"+m.ID))
	}, reliable.Retry(reliable.RetryPolicy{MaxAttempts: 5, Backoff: reliable.Schedule(time.Minute, 10*time.Minute, time.Hour)}))
	return err
}

// run stands for "go test": it runs a test's function, and what that left for its end.
func run(test func(t testing.TB)) {
	t := &exampleTB{}
	defer t.end()
	test(t)
}

// A handler publishes, and a message that it cannot handle becomes a dead letter.
func Example() {
	run(func(t testing.TB) { // func TestShip(t *testing.T) {
		b := reliabletest.New(t)
		if err := ship(b.Client(), func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		reliabletest.Publish(b, orders, Order{ID: 7})
		reliabletest.Publish(b, orders, Order{ID: -1})
		b.Settle()

		if reliabletest.Expect(t, b.PublishedTo(parcels), Parcel{Order: 7}) {
			fmt.Println("one parcel")
		}
		if b.ExpectDeadLetters(orders, reliabletest.Dead{Reason: reliable.ReasonPermanent, Error: "number -1", Body: Order{ID: -1}}) {
			fmt.Println("one dead letter")
		}
	})
	// Output:
	// one parcel
	// one dead letter
}

// The carrier is away for a while: attempts at 0:00, 0:01 and 0:11 fail. Advance lets
// each retry happen at its own time.
func ExampleBroker_Advance() {
	run(func(t testing.TB) {
		b := reliabletest.New(t)
		begun := b.Clock.Now()
		err := ship(b.Client(), func() error {
			after := b.Clock.Now().Sub(begun).Round(time.Second)
			fmt.Println("attempt after", after)
			if after < time.Hour {
				return errors.New("no truck")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		reliabletest.Publish(b, orders, Order{ID: 7})
		b.Settle()
		b.ExpectWaiting(1)
		b.Advance(24 * time.Hour)
		reliabletest.Expect(t, b.PublishedTo(parcels), Parcel{Order: 7})
	})
	// Output:
	// attempt after 0s
	// attempt after 1m0s
	// attempt after 11m0s
	// attempt after 1h11m0s
}

// The connection is lost when the handler is done and the broker does not know it yet:
// the order comes a second time. With a store of handled messages it takes effect once.
func ExampleBroker_CutAt() {
	run(func(t testing.TB) {
		b := reliabletest.New(t)
		calls := 0
		_, err := reliable.Consume(context.Background(), b.Client(), orders, func(ctx context.Context, m *reliable.Message[Order]) error {
			calls++
			return nil
		}, reliable.Idempotent("shipping", b.Store()))
		if err != nil {
			t.Fatal(err)
		}
		cut := b.CutAt(reliabletest.BeforeAck)
		reliabletest.Publish(b, orders, Order{ID: 7})
		b.Settle()
		fmt.Println("cut:", cut.Happened(), "- calls of the handler:", calls)
	})
	// Output: cut: true - calls of the handler: 1
}

// A test for every frame at which the connection can be lost.
func ExampleBroker_CutAtFrame() {
	run(func(t testing.TB) {
		survived := 0
		for n := 1; ; n++ {
			b := reliabletest.New(t)
			if err := ship(b.Client(), func() error { return nil }); err != nil {
				t.Fatal(err)
			}
			cut := b.CutAtFrame(n)
			reliabletest.Publish(b, orders, Order{ID: 7})
			b.Settle()
			if cut.Cancel(); !cut.Happened() {
				break
			}
			if reliabletest.Expect(t, b.PublishedTo(parcels), Parcel{Order: 7}) {
				survived++
			}
		}
		fmt.Println("no parcel was lost; more than five cuts:", survived > 5)
	})
	// Output: no parcel was lost; more than five cuts: true
}

// An order arrives twice, because whoever published it was cut off before the confirm.
func ExampleBroker_Duplicate() {
	run(func(t testing.TB) {
		b := reliabletest.New(t)
		calls := 0
		_, err := reliable.Consume(context.Background(), b.Client(), orders, func(ctx context.Context, m *reliable.Message[Order]) error {
			calls++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		b.Duplicate(1)
		reliabletest.Publish(b, orders, Order{ID: 7})
		b.Settle()
		fmt.Println("calls of a handler that does not care:", calls)
	})
	// Output: calls of a handler that does not care: 2
}

// What fails is shown as a difference.
func ExampleExpect() {
	run(func(t testing.TB) {
		b := reliabletest.New(t)
		out, err := reliable.NewPublisher[Parcel](context.Background(), b.Client(), reliable.ToQueue(parcels))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 3} {
			if err := out.Publish(context.Background(), Parcel{Order: n}); err != nil {
				t.Fatal(err)
			}
		}
		reliabletest.Expect(t, b.PublishedTo(parcels), Parcel{Order: 1}, Parcel{Order: 2}, Parcel{Order: 3})
	})
	// Output:
	// published messages (- expected, + published):
	//   {"Order":1}
	// - {"Order":2}
	//   {"Order":3}
}
