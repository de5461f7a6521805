//go:build !linux

package vfs

import (
	"errors"
	"os"
)

// errNotDirect is never met: only Linux has a way past the cache that also has fdatasync's price.
var errNotDirect = errors.ErrUnsupported

func openDirect(string) (*os.File, error) { return nil, errNotDirect }
