package loadgen

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// loop drives all publishers or all consumers of a run from one goroutine, whose
// thread waits for all their sockets at once. It makes the system calls that a
// program with a thread for each connection would make, but pays neither for
// switching between them nor for the runtime's poller and its watchdog.
type loop struct {
	r    *runner
	role string
	poll *poller

	seats  []seat
	queue  []int // seats that have something to do, in a ring
	head   int
	queued int
	timers timers
	writes int // system calls since the last look at the sockets
}

// seat is a worker in a loop. At any time it is in the queue, or waits for a time,
// or for an event, or is gone.
type seat struct {
	w      worker
	s      *socket
	queued bool
	at     int64 // the time it waits for; 0 if it does not
	gone   bool
}

// patience is how long a loop may take to notice that the run has ended.
const patience = int64(5 * time.Millisecond)

// newLoop makes a loop of workers, and nothing if it cannot have their connections.
func newLoop(r *runner, role string, workers []worker) (*loop, error) {
	if !r.broker.OwnThreads || len(workers) == 0 {
		return nil, nil
	}
	for _, w := range workers {
		if _, ok := w.client().nc.(*net.TCPConn); !ok {
			return nil, nil
		}
	}
	p, err := newPoller()
	if err != nil {
		return nil, fmt.Errorf("a loop for %ss: %w", role, err)
	}
	l := &loop{r: r, role: role, poll: p, queue: make([]int, len(workers))}
	for i, w := range workers {
		s, err := adopt(w.client())
		if err == nil {
			_, s.inOrder = w.(*consumer)
			l.seats = append(l.seats, seat{w: w, s: s})
			err = p.add(s, i)
		}
		if err != nil {
			l.release()
			return nil, fmt.Errorf("connection of %s %d: %w", role, i+1, err)
		}
	}
	l.timers.seats = l.seats
	return l, nil
}

// release gives the connections back once run has ended.
func (l *loop) release() {
	if l == nil {
		return
	}
	l.poll.close()
	for i := range l.seats {
		l.seats[i].s.giveBack(l.seats[i].w.client())
	}
}

// run drives the workers until the run ends.
func (l *loop) run() {
	if cfg := l.r.cfg; cfg.Rate > 0 || cfg.ConsumerRate > 0 {
		precise()
	}
	for i := range l.seats {
		l.seats[i].w.begin()
		l.push(i)
	}
	for !l.r.ending.Load() {
		l.wake()
		if l.queued > 0 {
			l.turn(l.pop())
			if l.queued > 0 && l.writes < burst {
				continue
			}
		}
		if !l.look(l.idle()) {
			return
		}
	}
	l.drain()
}

// turn lets one worker do something.
func (l *loop) turn(i int) {
	seat := &l.seats[i]
	s, before := seat.s, seat.s.writes
	s.reads = turnReads
	var err error
	if s.readable {
		err = seat.w.arrived()
	}
	until := int64(never)
	if (err == nil || errors.Is(err, errAgain)) && len(s.rest) == 0 {
		until, err = seat.w.turn()
	}
	l.writes += s.writes - before
	switch {
	case err != nil && !errors.Is(err, errAgain):
		l.leave(i, err)
	case len(s.rest) > 0: // until there is room
	case err == nil && until == 0, s.readable && (until == never || err != nil):
		l.push(i)
	case err == nil && until != never:
		l.timers.push(i, until)
	}
}

// leave takes a worker out that has enough, or whose connection is broken.
func (l *loop) leave(i int, err error) {
	seat := &l.seats[i]
	seat.gone = true
	if errors.Is(err, errEnough) {
		return
	}
	// A broker that closes says why, and then a write may fail before that is read.
	if _, ok := errors.AsType[*CloseError](err); !ok {
		seat.s.readable, seat.s.inOrder, seat.s.reads = true, false, turnReads
		if why, ok := errors.AsType[*CloseError](seat.w.client().parting()); ok {
			err = why
		}
	}
	l.r.fail(fmt.Errorf("%s %d: %w", l.role, i+1, err))
}

// look takes in what has happened to the sockets; it waits for that for a while.
func (l *loop) look(nanos int64) bool {
	l.writes = 0
	events, err := l.poll.wait(nanos)
	if err != nil {
		l.r.fail(err)
		return false
	}
	for _, ev := range events {
		l.event(int(ev.Fd), ev.Events)
	}
	return true
}

func (l *loop) event(i int, what uint32) {
	seat := &l.seats[i]
	s := seat.s
	if seat.gone {
		return
	}
	var err error
	if what&unix.EPOLLOUT != 0 {
		err = s.flush()
	}
	if err == nil && what&^unix.EPOLLOUT != 0 {
		s.readable = true
		s.ended = s.ended || what&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
		s.reads = turnReads
		err = seat.w.arrived()
	}
	if err != nil && !errors.Is(err, errAgain) {
		l.leave(i, err)
		return
	}
	if seat.at == 0 && !seat.queued {
		l.push(i)
	}
}

// idle is how long there is nothing to do, unless something comes.
func (l *loop) idle() int64 {
	if l.queued > 0 {
		return 0
	}
	if at := l.timers.next(); at != never {
		return min(max(at-l.r.since(), 0), patience)
	}
	return patience
}

// wake queues those whose time has come.
func (l *loop) wake() {
	at := l.timers.next()
	if at == never {
		return
	}
	for now := l.r.since(); at <= now; at = l.timers.next() {
		l.push(l.timers.pop())
	}
}

// drain writes what was begun, so that the connections can be closed politely, but
// does not wait for a broker that has stopped reading.
func (l *loop) drain() {
	stuck := func() bool {
		for i := range l.seats {
			if !l.seats[i].gone && len(l.seats[i].s.rest) > 0 {
				return true
			}
		}
		return false
	}
	for end := l.r.since() + int64(leaveTime/2); stuck() && l.r.since() < end; {
		if !l.look(patience) {
			return
		}
	}
}

// push queues a seat that is not queued.
func (l *loop) push(i int) {
	l.seats[i].queued = true
	l.queue[(l.head+l.queued)%len(l.queue)] = i
	l.queued++
}

func (l *loop) pop() int {
	i := l.queue[l.head]
	l.head = (l.head + 1) % len(l.queue)
	l.queued--
	l.seats[i].queued = false
	return i
}

// timers is a heap of the seats that wait for a time, the earliest first.
type timers struct {
	seats []seat
	heap  []int
}

// next is the earliest time.
func (t *timers) next() int64 {
	if len(t.heap) == 0 {
		return never
	}
	return t.seats[t.heap[0]].at
}

func (t *timers) push(i int, at int64) {
	t.seats[i].at = at
	t.heap = append(t.heap, i)
	for n := len(t.heap) - 1; n > 0; {
		up := (n - 1) / 2
		if !t.before(n, up) {
			break
		}
		t.heap[n], t.heap[up] = t.heap[up], t.heap[n]
		n = up
	}
}

func (t *timers) pop() int {
	i, last := t.heap[0], len(t.heap)-1
	t.heap[0] = t.heap[last]
	t.heap = t.heap[:last]
	for n := 0; ; {
		down := 2*n + 1
		if down+1 < last && t.before(down+1, down) {
			down++
		}
		if down >= last || !t.before(down, n) {
			break
		}
		t.heap[n], t.heap[down] = t.heap[down], t.heap[n]
		n = down
	}
	t.seats[i].at = 0
	return i
}

func (t *timers) before(a, b int) bool { return t.seats[t.heap[a]].at < t.seats[t.heap[b]].at }
