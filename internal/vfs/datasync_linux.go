package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

func datasync(file *os.File) error {
	return retryInterrupted(func() error { return withDescriptor(file, unix.Fdatasync) })
}
