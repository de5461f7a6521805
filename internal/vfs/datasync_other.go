//go:build !linux

package vfs

import "os"

// datasync is the full sync: macOS and Windows have nothing weaker that would reach the disk.
// os.File.Sync is F_FULLFSYNC there, since fsync on macOS stops at the drive's cache, and
// FlushFileBuffers on Windows.
func datasync(file *os.File) error { return file.Sync() }
