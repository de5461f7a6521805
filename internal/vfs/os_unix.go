//go:build linux || darwin || freebsd

package vfs

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// IsNoSpace says whether err means that the disk, or this user's share of it, is full.
func IsNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// syncDir fsyncs a directory. File systems that have no such operation (some network ones) answer
// EINVAL or ENOTSUP; nothing more can be done there, so it is no error.
func syncDir(dir string) error {
	handle, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	err = handle.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, handle.Close())
}

// lockFile takes the lock without waiting. flock belongs to the open file, not to the process as
// fcntl locks do, so a second broker in the same process is kept out as well.
func lockFile(file *os.File) error {
	err := retryInterrupted(func() error {
		return withDescriptor(file, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	})
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

func freeBytes(dir string) (uint64, error) {
	var stat unix.Statfs_t
	err := retryInterrupted(func() error { return unix.Statfs(dir, &stat) })
	if err != nil {
		return 0, err
	}
	if stat.Bavail < 0 || stat.Bsize < 0 { // FreeBSD: the root-only reserve is in use
		return 0, nil
	}
	return uint64(stat.Bavail) * uint64(stat.Bsize), nil
}

// withDescriptor keeps the file open and its descriptor as it is while call runs.
func withDescriptor(file *os.File, call func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	if err := raw.Control(func(fd uintptr) { callErr = call(int(fd)) }); err != nil {
		return os.ErrClosed // the only way for Control to fail, which it says in an error of its own
	}
	return callErr
}

// retryInterrupted repeats a call that a signal interrupted before it did anything (EINTR).
func retryInterrupted(call func() error) error {
	for {
		err := call()
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
