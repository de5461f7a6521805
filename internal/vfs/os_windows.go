package vfs

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// IsNoSpace says whether err means that the disk is full. syscall.ENOSPC never comes from
// Windows itself, but from injected faults.
func IsNoSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) ||
		errors.Is(err, syscall.ENOSPC)
}

// syncDir has nothing to sync: NTFS journals its names, and a directory cannot be flushed without
// rights that a broker does not have.
func syncDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &os.PathError{Op: "sync", Path: dir, Err: syscall.ENOTDIR}
	}
	return nil
}

func lockFile(file *os.File) error {
	var region windows.Overlapped // from offset 0
	err := windows.LockFileEx(windows.Handle(file.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &region)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return ErrLocked
	}
	return err
}

func freeBytes(dir string) (uint64, error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var freeToCaller uint64
	if err := windows.GetDiskFreeSpaceEx(path, &freeToCaller, nil, nil); err != nil {
		return 0, err
	}
	return freeToCaller, nil
}
