package broker

import "github.com/warrenmq/warren/internal/vfs"

// OnFileSystem makes c keep its data on that file system instead of the machine's,
// in log files of that size in bytes (0 for the usual one). It is for package
// brokertest: nobody outside this module can name a file system.
func OnFileSystem(c Config, fsys vfs.FS, logBytes int64) Config {
	c.fileSystem, c.logBytes = fsys, logBytes
	return c
}

// LookAtDisk has the broker notice at once how much space its disk has left,
// which it does by itself once a second, or more often when there is little.
func (f Faults) LookAtDisk() { f.b.engine.LookAtDisk() }
