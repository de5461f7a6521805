package vfs

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestIsNotDirect: what a file system without O_DIRECT says is no failure of the log; a full
// or broken disk is.
func TestIsNotDirect(t *testing.T) {
	for err, want := range map[error]bool{
		unix.EINVAL: true, unix.ENOTSUP: true, unix.ENOSPC: false, unix.EIO: false, os.ErrClosed: false,
	} {
		if got := isNotDirect(fmt.Errorf("write: %w", &os.PathError{Op: "write", Path: "f", Err: err})); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}
