//go:build unix

package amqpserver

import (
	"net"
	"syscall"
)

// socketOf is nil for anything but a TCP or Unix socket.
func socketOf(nc net.Conn) immediate {
	var sc syscall.Conn
	switch nc := nc.(type) {
	case *net.TCPConn:
		sc = nc
	case *net.UnixConn:
		sc = nc
	default:
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

// WriteNow implements immediate.
func (s *socket) WriteNow(b []byte) (int, error) {
	s.b, s.n, s.err = b, 0, nil
	err := s.raw.Write(s.try)
	s.b = nil
	if err == nil {
		err = s.err
	}
	if err != nil {
		return 0, err
	}
	return s.n, nil
}
