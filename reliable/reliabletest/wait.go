package reliabletest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"time"
)

// lookAgain is how long a wait lasts between two looks.
const lookAgain = 300 * time.Microsecond

// WaitFor waits until a condition holds, or ends the test after Patience: "waited 10s
// for what". The condition is called again and again, on the test's goroutine.
func (b *Broker) WaitFor(what string, condition func() bool) {
	b.t.Helper()
	if !b.wait(condition) {
		b.t.Fatalf("reliabletest: waited %v for %s", b.Patience, what)
	}
}

// wait looks at a condition until it holds or Patience is over.
func (b *Broker) wait(condition func() bool) (holds bool) {
	deadline := time.Now().Add(b.Patience)
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			return false
		}
		<-ticker.C
	}
	return true
}

// Settle waits until nothing more happens without time passing: what was published
// is confirmed, the queues that the program consumes are empty, and their messages
// acknowledged, with a copy waiting for its retry, or dead letters. If that does not
// come to pass within Patience it ends the test and says what is left.
//
// A handler that waits, for a time of the Clock (also RetryPolicy.InProcess) or for
// the test itself, is not settled: use WaitFor. Of a program that publishes without
// confirms Settle cannot know whether everything has arrived.
func (b *Broker) Settle() {
	b.t.Helper()
	var left string
	if !b.wait(func() bool { left = b.left(); return left == "" }) {
		b.t.Fatalf("reliabletest: after %v %s", b.Patience, left)
	}
}

// Advance lets d pass. Wherever something is due on the way (a retry, a delayed
// message, a time to live, the end of a lease) it stops and settles, so that what
// follows from it is counted from its own time.
func (b *Broker) Advance(d time.Duration) {
	b.t.Helper()
	if d < 0 {
		b.t.Fatalf("reliabletest: Advance(%v): time does not go back", d)
	}
	end := b.Clock.Now().Add(d)
	deadline := time.Now().Add(b.Patience)
	b.Settle()
	for {
		next, ok := b.Clock.Next()
		if !ok || next.After(end) {
			break
		}
		b.Clock.Advance(max(next.Sub(b.Clock.Now()), 0))
		b.Settle()
		if time.Now().After(deadline) {
			b.t.Fatalf("reliabletest: Advance(%v) has come to the last %v of it in %v, and stops there: raise Patience, or advance less",
				d, end.Sub(b.Clock.Now()), b.Patience)
		}
	}
	b.Clock.Advance(end.Sub(b.Clock.Now()))
	b.Settle()
}

// queueCounts is what the broker says about a queue.
type queueCounts struct {
	Name     string `json:"name"`
	Messages int    `json:"messages"`
	Ready    int    `json:"messages_ready"`
	Unacked  int    `json:"messages_unacknowledged"`
}

// left says what is not settled; empty if nothing is.
func (b *Broker) left() string {
	b.mu.Lock()
	open, events := b.record.open, b.record.events
	b.mu.Unlock()
	if open > 0 {
		return fmt.Sprintf("%d published messages are not confirmed", open)
	}
	queues, err := b.queues()
	if err != nil {
		return err.Error()
	}
	b.mu.Lock()
	consumed, still := b.record.consumed(), b.record.events == events
	b.mu.Unlock()
	var left []string
	for _, q := range queues {
		switch {
		case consumed[q.Name] && q.Messages > 0:
			left = append(left, fmt.Sprintf("queue %q has %d messages that wait and %d that handlers have not settled", q.Name, q.Ready, q.Messages-q.Ready))
		case q.Messages > q.Ready+q.Unacked:
			left = append(left, fmt.Sprintf("queue %q has %d dead letters that no queue has taken", q.Name, q.Messages-q.Ready-q.Unacked))
		}
	}
	if len(left) == 0 && !still {
		return "messages are still on their way"
	}
	slices.Sort(left)
	return strings.Join(left, "; ")
}

// queues asks the broker.
func (b *Broker) queues() (list []queueCounts, err error) {
	r := httptest.NewRequest(http.MethodGet, "/api/queues?columns=name,messages,messages_ready,messages_unacknowledged", nil)
	r.SetBasicAuth("guest", "guest")
	r.RemoteAddr = "127.0.0.1:1"
	w := httptest.NewRecorder()
	b.inner.ManagementHandler().ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		return nil, fmt.Errorf("the broker does not say what is in its queues: %d %s", w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
		return nil, fmt.Errorf("what the broker says about its queues: %w", err)
	}
	return list, nil
}
