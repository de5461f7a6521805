package benchsuite

import (
	"errors"
	"path/filepath"
	"time"

	"github.com/warrenmq/warren/internal/vfs"
)

// Disk measures how often a disk makes a page durable: 4 KiB at a time into a file
// that has been written before, each with fdatasync.
type Disk struct {
	f     vfs.File
	path  string
	pages int64 // written so far
}

const (
	diskFileBytes = 64 << 20
	diskPageBytes = 4096
)

// OpenDisk makes the file, in a folder on the disk to measure.
func OpenDisk(dir string) (*Disk, error) {
	d := &Disk{path: filepath.Join(dir, "fdatasync.tmp")}
	var err error
	if d.f, err = (vfs.OS{}).Create(d.path); err != nil {
		return nil, err
	}
	if err := errors.Join(d.f.ZeroFill(diskFileBytes), d.f.Sync()); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close takes the file away.
func (d *Disk) Close() error { return errors.Join(d.f.Close(), vfs.OS{}.Remove(d.path)) }

// Syncs writes for a time, and returns how many pages and how long it took.
func (d *Disk) Syncs(length time.Duration) (n int64, took time.Duration, err error) {
	page := make([]byte, diskPageBytes)
	start := time.Now()
	for time.Since(start) < length {
		page[0]++
		if _, err := d.f.WriteAt(page, d.pages*diskPageBytes%diskFileBytes); err != nil {
			return n, 0, err
		}
		if err := d.f.Datasync(); err != nil {
			return n, 0, err
		}
		d.pages++
		n++
	}
	return n, time.Since(start), nil
}
