//go:build unix

package amqpserver

import (
	"net"
	"syscall"
)

// tryWriterOf is nil for a connection that cannot do it.
func tryWriterOf(nc net.Conn) tryWriter {
	if w, ok := nc.(tryWriter); ok {
		return w
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	s := &socket{raw: raw}
	s.try = func(fd uintptr) bool {
		s.n, s.err = syscall.Write(int(fd), s.b)
		return true // whatever came of it: never wait
	}
	return s
}

// socket writes to a socket, which the runtime has made non-blocking.
type socket struct {
	raw syscall.RawConn
	try func(fd uintptr) bool // made once
	b   []byte
	n   int
	err error
}

// TryWrite implements tryWriter.
func (s *socket) TryWrite(b []byte) int {
	s.b, s.n, s.err = b, 0, nil
	err := s.raw.Write(s.try)
	s.b = nil
	if err != nil || s.err != nil {
		return 0
	}
	return s.n
}
