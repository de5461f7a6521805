package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// isNotDirect tells whether a write past the cache has failed because it cannot be done there
// (open(2), O_DIRECT; some file systems only say so when written to).
func isNotDirect(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)
}

func openDirect(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_WRONLY|unix.O_DIRECT, osFileMode)
}
