package store

import "path/filepath"

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

// Below tells whether a start no longer reads a log file: all its records are
// below the mark.
func (d *Disk) Below(number uint32) bool {
	files := d.log.Files()
	for i, f := range files {
		if f.Number == number {
			return i+1 < len(files) && files[i+1].FirstLSN <= d.Marked()
		}
	}
	return false
}

// Drop gives up a log file that is below the mark. Nothing may refer to it, and
// every fact that made it so has to be durable.
func (d *Disk) Drop(number uint32) error { return d.log.Drop(number) }

// Tidy gives up what a busy time has left: files for use again, bodies in memory.
func (d *Disk) Tidy() {
	d.log.TidySpares()
	d.log.TidyBlocks()
}

// References is the number of references held into log files, for tests that look
// for one that was never dropped.
func (d *Disk) References() (n int64) {
	for _, f := range *d.files.Load() {
		n += f.refs.Load()
	}
	return n
}

// KeepReserve, ReleaseReserve: see seglog.Log.
func (d *Disk) KeepReserve(bytes, leaveBytes int64) error {
	return d.log.KeepReserve(bytes, leaveBytes)
}

// ReleaseReserve gives the reserve up and reports whether there was one.
func (d *Disk) ReleaseReserve() bool { return d.log.ReleaseReserve() }

// Reserved is the size of the reserve, 0 if there is none.
func (d *Disk) Reserved() int64 { return d.log.Reserved() }

// CheckpointBytes is the size of the checkpoint in force, 0 if there is none.
func (d *Disk) CheckpointBytes() int64 {
	name := d.log.Marked().Name
	if name == "" {
		return 0
	}
	size, err := d.cfg.FS.Stat(filepath.Join(d.cfg.Dir, name))
	if err != nil {
		return 0 // it is an estimate of the next one
	}
	return size
}

// FileBytes is the size of a log file, FirstFileBytes that of the first of a run.
func (d *Disk) FileBytes() int64      { return d.log.FileBytes() }
func (d *Disk) FirstFileBytes() int64 { return d.log.FirstFileBytes() }
