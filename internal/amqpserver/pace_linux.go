package amqpserver

import (
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/warrenmq/warren/internal/nowait"
)

// newAlarmClock makes a sleep that ends within microseconds of the time, where the
// runtime's timers take a millisecond, and that holds neither a thread nor a processor
// meanwhile: a timer that the poller waits for as it does for a socket. It is for one
// goroutine, and allocates nothing when called. Without one to be had it is time.Sleep.
func newAlarmClock() (rest func(time.Duration), stop func()) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return time.Sleep, func() {}
	}
	f := os.NewFile(uintptr(fd), "timer")
	var spec unix.ItimerSpec
	expirations := make([]byte, 8)
	rest = func(d time.Duration) {
		if d <= 0 {
			return
		}
		spec.Value = unix.NsecToTimespec(int64(d))
		if unix.TimerfdSettime(fd, 0, &spec, nil) != nil {
			time.Sleep(d)
			return
		}
		_, _ = f.Read(expirations) // an error ends the rest early, and no more
	}
	return rest, func() {
		fd = -1 // the number may be another file's by the next rest
		_ = f.Close()
	}
}

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
	s.look = func(fd uintptr) {
		s.there, s.err = unix.IoctlGetInt(int(fd), unix.TIOCINQ)
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
	look  func(fd uintptr) // the same
	bytes int
	there int
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

func (s *lowWater) waiting() int {
	s.there, s.err = 0, nil
	if s.raw.Control(s.look) != nil || s.err != nil {
		return 0 // nobody waits for more, then
	}
	return s.there
}
