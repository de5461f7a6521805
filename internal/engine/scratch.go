package engine

import "github.com/warrenmq/warren/internal/store"

// defaultBodyBytes bounds bodies in memory if the configuration does not say: it
// is the log's own default.
const defaultBodyBytes = 16 << 20

// openScratch lets messages that are in no log spill to the data directory once
// they need more memory than bodies may: transient ones, and those in queues that
// are not durable. Without a data directory nothing spills: a broker that was told
// to keep everything in memory leaves nothing on a disk, and its memory alarm
// blocks publishers instead.
func (e *Engine) openScratch(c Config) {
	budget := c.Disk.ResidentBytes
	if budget == 0 {
		budget = defaultBodyBytes
	}
	e.arena.SpillTo(c.Disk.FS, c.Disk.Dir, budget, e.logger)
	e.alarm.sweepFloor = min(sweepFloorBytes, max(budget, 4*store.ChunkBytes))
	e.alarm.sweepAbove.Store(e.alarm.sweepFloor)
}

// spill writes messages to scratch files if they use more memory than they may.
// Called without locks; it blocks on the disk. When space is low it leaves what is
// there to the log: then it is the memory alarm that holds publishers.
func (e *Engine) spill() {
	if e.disk == nil || e.alarm.disk.Load() {
		return
	}
	e.arena.Relieve()
}
