package engine

import (
	"sync"
	"time"
)

// diskWatch raises and clears the disk alarm. It looks the more often the less
// space is left: a fast disk takes gigabytes in a second, and publishers have to
// be blocked while there is still room for what is under way.
type diskWatch struct {
	e       *Engine
	minFree uint64
	end     chan struct{}
	ended   sync.WaitGroup
	looking sync.Mutex // so that an older look does not have the last word
}

const (
	diskWatchSlow = time.Second
	diskWatchFast = 10 * time.Millisecond
	// diskWatchNear above the limit, looking becomes fast: more than a disk takes
	// in diskWatchSlow.
	diskWatchNear = 4 << 30
)

func newDiskWatch(e *Engine, minFree uint64) *diskWatch {
	return &diskWatch{e: e, minFree: minFree, end: make(chan struct{})}
}

// start looks on a goroutine of its own until close.
func (w *diskWatch) start() {
	w.ended.Go(func() {
		for {
			timer := time.NewTimer(w.look())
			select {
			case <-w.end:
				timer.Stop()
				return
			case <-timer.C:
			}
		}
	})
}

func (w *diskWatch) close() {
	close(w.end)
	w.ended.Wait()
}

// look sets the alarm and returns when to look again. Once raised, it stays until
// there is half as much more than the limit, so that it does not flicker.
func (w *diskWatch) look() (again time.Duration) {
	w.looking.Lock()
	defer w.looking.Unlock()
	free, err := w.e.disk.Free()
	if err != nil {
		return diskWatchSlow
	}
	limit := w.minFree
	if w.e.alarm.disk.Load() {
		limit += limit / 2
	}
	w.e.alarm.setDisk(free < limit)
	if w.minFree > 0 && free < w.minFree+diskWatchNear {
		return diskWatchFast
	}
	return diskWatchSlow
}

// LookAtDisk sees at once how much space is left.
func (e *Engine) LookAtDisk() {
	if e.janitor != nil {
		e.janitor.watch.look()
	}
}
