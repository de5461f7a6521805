package engine

import (
	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/vfs"
)

// On a full disk space is freed by a checkpoint, which takes some itself, and by
// giving up the log files below it. The log keeps a reserve for that and for its
// own manifest and last records (seglog's KeepReserve); the janitor makes it, and
// makes it anew when there is space again.

// checkpointAnyway is checkpoint that takes the reserve if the disk is full.
func (e *Engine) checkpointAnyway(stop func() bool) error {
	err := e.checkpoint(stop)
	if vfs.IsNoSpace(err) && e.Err() == nil && e.disk.ReleaseReserve() {
		err = e.checkpoint(stop)
	}
	return err
}

// keepReserve makes the reserve, if there is room for it besides the free space
// that publishers need. It holds a checkpoint, and a log file: a small one as long
// as there are no others.
func (j *janitor) keepReserve() {
	d := j.e.disk
	want := j.checkpointBytes() + d.FirstFileBytes()
	if len(d.Use()) > 0 {
		want = j.checkpointBytes() + d.FileBytes()
	}
	leave := max(2*int64(j.watch.minFree), want)
	err := d.KeepReserve(want, leave)
	if err != nil && !j.reserveFailed {
		j.e.logger.Warn("nothing is kept back for a full disk", "error", err)
	}
	j.reserveFailed = err != nil
}

// checkpointBytes estimates the next checkpoint.
func (j *janitor) checkpointBytes() int64 {
	return max(j.e.disk.CheckpointBytes(), checkpointBytesPerMessage*j.indexed()) + checkpointFixedBytes
}

// indexed is how many messages a checkpoint has to write about. A cold page takes
// as much as three.
func (j *janitor) indexed() (n int64) {
	for _, q := range j.e.allQueues() {
		q.mu.Lock()
		cold := q.m.ColdPages()
		n += int64(max(q.m.ReadyCount()+q.m.UnackedCount()-cold*queue.PageLen, 0) + 3*cold)
		q.mu.Unlock()
	}
	return n
}

const (
	// checkpointBytesPerMessage is what a checkpoint takes for a message, with what
	// a page of few messages takes besides.
	checkpointBytesPerMessage = 24
	// checkpointFixedBytes is for definitions and the manifest.
	checkpointFixedBytes = 256 << 10
)

// freeable is how many bytes of log a checkpoint would let go.
func (j *janitor) freeable() (bytes int64) {
	for _, f := range j.e.disk.Use() {
		if f.Refs == 0 && !j.e.disk.Below(f.Number) {
			bytes += f.Bytes
		}
	}
	return bytes
}

// slack is how much of the log may be dead before messages are moved. On a full
// disk it is less, if there is room for what would move.
func (j *janitor) slack(leastBytes int64) int64 {
	d := j.e.disk
	if !j.e.alarm.disk.Load() {
		return j.slackBytes
	}
	if free, err := d.Free(); err != nil || free < uint64(2*leastBytes) {
		return j.slackBytes
	}
	return min(j.slackBytes, 2*d.FileBytes())
}
