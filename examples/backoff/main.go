// Command backoff simulates delayed retries without a broker: a heap of messages
// by the time at which they are due, on a clock that jumps from one to the next.
package main

import (
	"container/heap"
	"errors"
	"fmt"
	"time"
)

const maxAttempts = 4

// message waits until it is due.
type message struct {
	id, payload string
	attempt     int
	due         time.Duration // since the begin
}

// waiting is a heap: the message that is due first is on top, of several the one that
// was first.
type waiting []message

func (w waiting) Len() int { return len(w) }
func (w waiting) Less(i, j int) bool {
	return w[i].due < w[j].due || w[i].due == w[j].due && w[i].id < w[j].id
}
func (w waiting) Swap(i, j int) { w[i], w[j] = w[j], w[i] }
func (w *waiting) Push(m any)   { *w = append(*w, m.(message)) }
func (w *waiting) Pop() any {
	last := (*w)[len(*w)-1]
	*w = (*w)[:len(*w)-1]
	return last
}

func handle(m message) error {
	if m.payload == "fail" {
		return errors.New("boom")
	}
	return nil
}

// backoff is 100 ms after the first attempt and twice as long after each other.
func backoff(attempt int) time.Duration {
	return 100 * time.Millisecond << (attempt - 1)
}

func main() {
	queue := &waiting{{"m1", "ok", 1, 0}, {"m2", "fail", 1, 0}}
	heap.Init(queue)
	var dead []message
	for queue.Len() > 0 {
		m := heap.Pop(queue).(message)
		now := m.due // a real program would sleep until then
		outcome := "done"
		if err := handle(m); err != nil && m.attempt == maxAttempts {
			outcome = err.Error() + ", given up"
			dead = append(dead, m)
		} else if err != nil {
			outcome = fmt.Sprintf("%v, again in %d ms", err, backoff(m.attempt).Milliseconds())
			heap.Push(queue, message{m.id, m.payload, m.attempt + 1, now + backoff(m.attempt)})
		}
		fmt.Printf("%5d ms  %s attempt %d: %s\n", now.Milliseconds(), m.id, m.attempt, outcome)
	}
	fmt.Println("dead letters:", len(dead))
}
