package amqpserver

import (
	"net"
	"syscall"
)

// quietSocketOf is nil for a connection that cannot do it.
func quietSocketOf(nc net.Conn) quietSocket {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	s := &lowWater{raw: raw}
	s.set = func(fd uintptr) {
		s.err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, s.bytes)
	}
	s.try = func(fd uintptr) bool {
		s.n, s.err = syscall.Read(int(fd), s.b)
		return true // whatever came of it: never wait
	}
	return s
}

// lowWater is a TCP socket with the option SO_RCVLOWAT (socket(7)): the poller is
// not told of less.
type lowWater struct {
	raw   syscall.RawConn
	set   func(fd uintptr)      // made once, as try
	try   func(fd uintptr) bool // with what follows
	b     []byte
	bytes int
	n     int
	err   error
}

func (s *lowWater) wakeAt(bytes int) bool {
	s.bytes, s.err = bytes, nil
	err := s.raw.Control(s.set)
	return err == nil && s.err == nil
}

func (s *lowWater) tryRead(b []byte) int {
	s.b, s.n, s.err = b, 0, nil
	err := s.raw.Read(s.try)
	s.b = nil
	if err != nil || s.err != nil {
		return 0
	}
	return s.n
}
