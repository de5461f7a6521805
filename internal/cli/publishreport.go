package cli

import (
	"fmt"
	"io"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// publishReporter prints what goes wrong while publishing, as soon as it is
// known: a person who types messages sees the failure of one before the next.
type publishReporter struct {
	stderr io.Writer
	window *window
	mu     sync.Mutex // held from taking failures until they are printed
}

// start prints failures and flow control until the window's channel has ended,
// then closes the channel it returns.
func (r *publishReporter) start(blocked <-chan amqp.Blocking) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-r.window.failed:
				r.printFailures()
			case b, ok := <-blocked:
				if !ok {
					blocked = nil
					continue
				}
				r.printBlocked(b)
			case <-r.window.done:
				return
			}
		}
	}()
	return ended
}

func (r *publishReporter) printFailures() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.window.takeFailures() {
		fmt.Fprintf(r.stderr, "warren: line %d: not published: %s\n", f.line, f.reason)
	}
}

func (r *publishReporter) printBlocked(b amqp.Blocking) {
	if b.Active {
		fmt.Fprintf(r.stderr, "warren: the broker takes no messages for now: %s\n", b.Reason)
		return
	}
	fmt.Fprintln(r.stderr, "warren: the broker takes messages again")
}
