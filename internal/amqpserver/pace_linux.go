package amqpserver

import (
	"net"
	"syscall"

	"github.com/warrenmq/warren/internal/nowait"
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
	s := &lowWater{raw: raw, read: nowait.Reader(tcp)}
	if s.read == nil {
		return nil
	}
	s.set = func(fd uintptr) {
		s.err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, s.bytes)
	}
	return s
}

// lowWater is a TCP socket with the option SO_RCVLOWAT (socket(7)): the poller is
// not told of less.
type lowWater struct {
	raw   syscall.RawConn
	read  func([]byte) (int, error)
	set   func(fd uintptr) // made once, with what follows
	bytes int
	err   error
}

func (s *lowWater) wakeAt(bytes int) bool {
	s.bytes, s.err = bytes, nil
	err := s.raw.Control(s.set)
	return err == nil && s.err == nil
}

func (s *lowWater) tryRead(b []byte) int {
	n, _ := s.read(b) // an ordinary read will meet the error
	return n
}
