//go:build !linux

package vfs

import (
	"errors"
	"os"
)

// Nothing is written past the cache elsewhere: only Linux has both O_DIRECT and fdatasync.

func isNotDirect(error) bool { return false }

func openDirect(string) (*os.File, error) { return nil, errors.ErrUnsupported }
