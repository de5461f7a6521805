package loadgen

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is a TCP connection that the runtime knows nothing of. Neither Read nor
// Write ever waits: there is errAgain instead, and what does not fit into the
// socket is kept until flush. So they need not tell the scheduler, which costs as
// much as the system call. One goroutine uses it.
type socket struct {
	net.Conn // what it was, closed; for its addresses
	fd       int

	readable bool // there may be something to read
	ended    bool // nothing comes after what is there: read on up to the error
	reads    int  // that are left of this turn
	inOrder  bool // reads nothing while something is to be written

	rest  []byte // still to be written
	begun bool   // a part of what rest begins with has been written

	writes int // system calls so far
}

// turnReads bounds the reads of a connection before others have their turn.
const turnReads = 4

// adopt takes a client's connection away from the runtime, so that it is not woken
// by what comes in. The duplicate descriptor keeps the connection open, and Close
// takes the original out of the runtime's epoll set.
func adopt(c *Client) (*socket, error) {
	tcp := c.nc.(*net.TCPConn)
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dupErr error
	if err := raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("fcntl", dupErr)
	}
	s := &socket{Conn: tcp, fd: fd, readable: true, reads: turnReads}
	if err := tcp.Close(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	c.nc = s
	return s, nil
}

// giveBack makes the client's connection one of the runtime again. Without that it
// stays closed.
func (s *socket) giveBack(c *Client) {
	if len(s.rest) > 0 && s.begun {
		c.cut.Store(true)
	}
	f := os.NewFile(uintptr(s.fd), "")
	defer f.Close()
	c.nc = s.Conn
	if nc, err := net.FileConn(f); err == nil { // it has a descriptor of its own
		c.nc = nc
	}
}

func (s *socket) Close() error { return syscall.Close(s.fd) }

func (s *socket) Read(b []byte) (int, error) {
	if !s.readable || s.reads == 0 || s.inOrder && len(s.rest) > 0 {
		return 0, errAgain
	}
	if len(b) == 0 {
		return 0, io.ErrShortBuffer
	}
	s.reads--
	for {
		n, _, e := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
		switch {
		case e == syscall.EINTR:
		case e == syscall.EAGAIN:
			s.readable = false
			return 0, errAgain
		case e != 0:
			return 0, s.failed("read", e)
		case n == 0:
			return 0, io.EOF
		default:
			// A read that fills less has taken everything; what comes later is an event.
			s.readable = s.ended || int(n) == len(b)
			return int(n), nil
		}
	}
}

// Write returns the length of b, whatever of it is only kept.
func (s *socket) Write(b []byte) (int, error) {
	if len(s.rest) > 0 {
		s.rest = append(s.rest, b...)
		return len(b), nil
	}
	n, err := s.write(b)
	if err != nil {
		return n, err
	}
	if n < len(b) {
		s.rest = append(s.rest, b[n:]...)
		s.begun = n > 0
	}
	return len(b), nil
}

// flush writes more of what was kept.
func (s *socket) flush() error {
	if len(s.rest) == 0 {
		return nil
	}
	n, err := s.write(s.rest)
	if n > 0 {
		s.begun = true
		s.rest = s.rest[:copy(s.rest, s.rest[n:])]
	}
	return err
}

// write is one system call; 0 means that the socket has no room.
func (s *socket) write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s.writes++
	for {
		n, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		switch e {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, nil
		default:
			return 0, s.failed("write", e)
		}
	}
}

// failed is the error that the net package would return.
func (s *socket) failed(op string, e syscall.Errno) error {
	return &net.OpError{Op: op, Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError(op, e)}
}

// stuck says whether something is still to be written.
func (c *Client) stuck() bool {
	s, ok := c.nc.(*socket)
	return ok && len(s.rest) > 0
}

// poller waits for sockets.
type poller struct {
	fd     int
	events []unix.EpollEvent
	coarse bool // no epoll_pwait2, which is in Linux since 5.11
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	return &poller{fd: fd, events: make([]unix.EpollEvent, 128)}, nil
}

// add asks for the events of a socket, which bear a number. They come once each
// time that something comes in or room is made: nothing is to be asked for again.
func (p *poller) add(s *socket, number int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(number)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, s.fd, &ev))
}

// wait returns what has come, after so many nanoseconds at most. The thread waits
// without the runtime's knowing; when that wants something of it, it sends a signal,
// which ends the wait.
func (p *poller) wait(nanos int64) ([]unix.EpollEvent, error) {
	first, n := uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events))
	for {
		var got uintptr
		var e syscall.Errno
		if p.coarse {
			got, e = p.waitCoarse(nanos)
		} else {
			ts := [2]int64{nanos / 1e9, nanos % 1e9}
			got, _, e = syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd), first, n, uintptr(unsafe.Pointer(&ts)), 0, 0)
		}
		switch {
		case e == 0:
			return p.events[:got], nil
		case e == syscall.EINTR:
			return nil, nil
		case !p.coarse && (e == syscall.ENOSYS || e == syscall.EPERM): // some sandboxes forbid what they do not know
			p.coarse = true
		default:
			return nil, fmt.Errorf("waiting for sockets: %w", e)
		}
	}
}

// waitCoarse is wait where epoll counts milliseconds: ppoll, which does not, waits
// for the epoll set to have something.
func (p *poller) waitCoarse(nanos int64) (uintptr, syscall.Errno) {
	if nanos > 0 {
		set := unix.PollFd{Fd: int32(p.fd), Events: unix.POLLIN}
		ts := unix.NsecToTimespec(nanos)
		if _, _, e := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&set)), 1, uintptr(unsafe.Pointer(&ts)), 0, 0, 0); e != 0 {
			return 0, e
		}
	}
	got, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), 0, 0, 0)
	return got, e
}

func (p *poller) close() { _ = syscall.Close(p.fd) }
