package store

import "github.com/warrenmq/warren/internal/seglog"

// FileUse says how much of a log file is still needed.
type FileUse struct {
	Number    uint32
	Bytes     int64 // of the file
	LiveBytes int64 // estimated: its records' bytes by the share of live references
	Refs      int64
}

// Use lists the log files that are not being written any more, oldest first.
func (d *Disk) Use() []FileUse {
	files := d.log.Files()
	if len(files) == 0 {
		return nil
	}
	out := make([]FileUse, 0, len(files)-1)
	for _, f := range files[:len(files)-1] {
		c := d.file(f.Number)
		u := FileUse{Number: f.Number, Bytes: f.Bytes, Refs: c.refs.Load()}
		if total := c.total.Load(); total > 0 {
			u.LiveBytes = c.bytes.Load() / total * u.Refs
		}
		out = append(out, u)
	}
	return out
}

// CurrentFile is the number of the file being written.
func (d *Disk) CurrentFile() uint32 {
	files := d.log.Files()
	return files[len(files)-1].Number
}

// Snapshot appends all definitions there are, at a position after every earlier
// change, so that files before it are not needed for them. The caller keeps the
// topology still meanwhile.
func (d *Disk) Snapshot(defs []Definition) seglog.LSN {
	from := d.CurrentFile()
	lsn := d.Define(defs...)
	d.snapshotFrom.Store(from)
	return lsn
}

// SnapshotFrom is the first file of the latest snapshot: files before it may be
// dropped once nothing refers to them. 0 if there is none.
func (d *Disk) SnapshotFrom() uint32 { return d.snapshotFrom.Load() }

// Drop gives up the oldest file. Nothing may refer to it, and every fact that
// made it so has to be durable.
func (d *Disk) Drop(number uint32) error { return d.log.Drop(number) }
