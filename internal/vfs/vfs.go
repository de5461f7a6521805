package vfs

import (
	"errors"
	"io"
)

// ErrLocked says that another process, or another Lock in this one, holds the lock.
var ErrLocked = errors.New("the lock is held by another process")

// FS is a file system. Names are plain paths, joined by the caller with path/filepath.
type FS interface {
	// Create opens name for reading and writing, makes it if it does not exist and truncates it
	// to nothing if it does. The directory must exist.
	Create(name string) (File, error)
	// Open opens an existing file for reading and writing.
	Open(name string) (File, error)
	// OpenRead opens an existing file for reading only: everything that changes it fails.
	OpenRead(name string) (File, error)
	// Remove takes a file or an empty directory away.
	Remove(name string) error
	// Rename moves a file, replacing a file that has the new name already.
	Rename(oldName, newName string) error
	// MkdirAll makes a directory and its parents where they are missing. To make a new
	// directory durable, SyncDir its parent.
	MkdirAll(dir string) error
	// List gives the names (without the directory) of what is in dir, sorted by bytes.
	List(dir string) ([]string, error)
	// Stat gives the size of a file in bytes; 0 for a directory.
	Stat(name string) (sizeBytes int64, err error)
	// SyncDir makes the names in dir durable. On Windows, where NTFS keeps names in a journal
	// and has no such call, it only checks that the directory is there.
	SyncDir(dir string) error
	// Lock takes an exclusive advisory lock on the file name, making it if it is missing.
	// It never waits: a lock that is held gives ErrLocked. The lock ends with Close of what is
	// returned or with the process, however that dies. The file itself stays.
	Lock(name string) (io.Closer, error)
	// Free gives the bytes that an unprivileged process can still write below dir.
	Free(dir string) (freeBytes uint64, err error)
}

// File is an open file. There is no file position: every read and write names its offset.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Truncate sets the size; a longer one reads as zeros, without disk blocks behind it.
	Truncate(sizeBytes int64) error
	// ZeroFill extends the file to sizeBytes with zeros that have written disk blocks behind
	// them, so that later writes there move no metadata and cannot run out of space. What the
	// file holds already stays; a file as long or longer is left alone. Not synced. After an
	// error the file may have any size in between.
	ZeroFill(sizeBytes int64) error
	// Sync makes content and size durable, with all metadata (fsync; F_FULLFSYNC on macOS;
	// FlushFileBuffers on Windows).
	Sync() error
	// Datasync makes content and size durable but may leave times behind (fdatasync on Linux,
	// the same as Sync elsewhere).
	Datasync() error
	// Direct asks (on) that writes of whole pages from aligned memory go to the disk past the
	// system's cache, until it is given up again. It is a hint, and changes nothing that is
	// promised here: where it cannot be done, and for other writes, everything is as ever. It
	// is for files with written blocks. It must not run at the same time as WriteAt, and while
	// it is on only one goroutine at a time may write.
	Direct(on bool)
	// Size gives the current size in bytes.
	Size() (int64, error)
}
