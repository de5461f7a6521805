//go:build !unix

package nowait

import "syscall"

// socketWriter is nil: here a write to a socket is not a call that could return
// at once.
func socketWriter(syscall.Conn) func([]byte) (int, error) { return nil }

// socketReader is nil, as socketWriter.
func socketReader(syscall.Conn) func([]byte) (int, error) { return nil }
