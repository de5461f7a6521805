package engine

import (
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/wire"
)

// alarm is up while message bodies use more memory than the limit. Connections
// that publish are then not read (connection.blocked tells them why), so that
// consumers, on connections of their own, can make room. It comes down at nine
// tenths of the limit, so that it does not flicker.
type alarm struct {
	e       *Engine
	limit   int64
	clearAt int64
	up      atomic.Bool
	disk    atomic.Bool // free space is low; see setDisk
	memory  atomic.Bool // bodies use more than the limit
	freeing atomic.Bool // giveBack is under way
	// inTx and coming are bytes that no queue has yet; see coming.go.
	inTx, coming atomic.Int64
	// sweepAbove is the memory in bodies at which to look for chunks that hold
	// little; it follows what the last look left.
	sweepAbove atomic.Int64
	sweepFloor int64 // the least that sweepAbove can be

	mu     sync.Mutex
	down   sync.Cond
	closed bool
}

func newAlarm(e *Engine, limit int64) *alarm {
	if limit > 0 {
		// The chunk being filled always counts: below this the alarm would never
		// come down.
		limit = max(limit, 2*store.ChunkBytes)
	}
	a := &alarm{e: e, limit: limit, clearAt: limit / 10 * 9, sweepFloor: sweepFloorBytes}
	a.down.L = &a.mu
	a.sweepAbove.Store(sweepFloorBytes)
	return a
}

// check raises or clears the alarm. It is called at the end of every run.
func (a *alarm) check() {
	used := a.e.arena.Used()
	if used > a.sweepAbove.Load() {
		a.e.sweepIfSparse()
	}
	if a.limit <= 0 {
		return
	}
	raised := used > a.limit && a.memory.CompareAndSwap(false, true)
	if raised {
		a.e.logger.Warn("memory alarm: publishers are blocked", "used_bytes", used, "limit_bytes", a.limit)
		a.e.sweepIfSparse()
		// Who released the memory meanwhile did not see the alarm, and with all
		// publishers held it may have been the last run for long.
		used = a.e.arena.Used()
	}
	cleared := used < a.clearAt && a.memory.CompareAndSwap(true, false)
	if cleared {
		a.e.logger.Info("memory alarm cleared", "used_bytes", used, "limit_bytes", a.limit)
		a.giveBack()
	}
	if !raised && !cleared {
		return
	}
	a.changed()
}

// setDisk raises or clears the disk alarm.
func (a *alarm) setDisk(low bool) {
	if a.disk.Swap(low) == low {
		return
	}
	if low {
		a.e.logger.Warn("disk alarm: free space is low, publishers are blocked")
	} else {
		a.e.logger.Info("disk alarm cleared")
	}
	a.changed()
}

// changed makes up follow the reasons, and wakes the readers once none is left.
func (a *alarm) changed() {
	a.mu.Lock()
	defer a.mu.Unlock()
	up := a.memory.Load() || a.disk.Load()
	a.up.Store(up)
	if !up {
		a.down.Broadcast()
	}
}

// reason is what connection.blocked says, in RabbitMQ's words.
func (a *alarm) reason() string {
	switch {
	case a.memory.Load() && a.disk.Load():
		return "low on memory & disk"
	case a.disk.Load():
		return "low on disk"
	}
	return "low on memory"
}

// giveBack returns memory to the system, which takes a whole garbage collection:
// an alarm that flickers gets one at a time.
func (a *alarm) giveBack() {
	if a.freeing.Swap(true) {
		return
	}
	a.e.background.Go(func() {
		defer a.freeing.Store(false)
		debug.FreeOSMemory()
	})
}

// await holds a connection's reader until the alarm is down or the connection's
// output is closed.
func (a *alarm) await(c *Conn) {
	if !a.up.Load() {
		return
	}
	if c.info.BlockedNotify {
		c.Out.Send(0, &wire.ConnectionBlocked{Reason: a.reason()})
	}
	a.mu.Lock()
	for a.up.Load() && !a.closed && !c.woken.Load() {
		a.down.Wait()
	}
	a.mu.Unlock()
	if c.info.BlockedNotify {
		c.Out.Send(0, &wire.ConnectionUnblocked{})
	}
}

// wakeAll lets readers that wait look at their connections again.
func (a *alarm) wakeAll() {
	a.mu.Lock()
	a.down.Broadcast()
	a.mu.Unlock()
}

func (a *alarm) close() {
	a.mu.Lock()
	a.closed = true
	a.down.Broadcast()
	a.mu.Unlock()
}
