package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// errNotDirect is what a write past the cache fails with where it cannot be done (open(2),
// O_DIRECT).
const errNotDirect = unix.EINVAL

func openDirect(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_WRONLY|unix.O_DIRECT, osFileMode)
}
