package loadgen

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/warrenmq/warren/internal/wire"
)

// socket is a TCP connection that the runtime knows nothing of. The thread of the
// one goroutine that uses it waits in the system calls themselves, and keeps its
// processor meanwhile: neither the scheduler nor the runtime's poller and watchdog
// have to do with it, which cost as much as the system calls. When the runtime wants
// something of the thread it sends a signal, which ends any of these waits.
type socket struct {
	net.Conn // what it was, closed; for its addresses
	fd       int
	ending   *atomic.Bool // waits end soon after it is set

	wait      int64        // how long a read may wait, in nanoseconds; never is until the run ends
	once      bool         // a read uses wait up: the next one has errAgain unless wait is set anew
	meanwhile func() error // takes in what comes while a write waits for room; may be nil

	writes int // system calls so far
}

// patience is how long a wait may take to notice that the run has ended.
const patience = int64(5 * time.Millisecond)

// spent is the wait of a read that may not even look.
const spent = -1

// errAgain says that nothing has come in the time that a read could wait.
var errAgain = errors.New("nothing there yet")

// adopt makes a client's connection a socket if it is one of TCP. The duplicate
// descriptor keeps the connection open, and Close takes the original out of the
// runtime's epoll set, so that the runtime is not woken by what comes in.
func adopt(c *Client, ending *atomic.Bool) error {
	tcp, ok := c.nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var fd int
	var dupErr error
	if err := raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return err
	}
	if dupErr != nil {
		return os.NewSyscallError("fcntl", dupErr)
	}
	s := &socket{Conn: tcp, fd: fd, ending: ending, wait: never}
	limit := unix.NsecToTimeval(patience)
	err = errors.Join(tcp.Close(), unix.SetNonblock(fd, false), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit))
	if err != nil {
		return errors.Join(err, s.Close())
	}
	c.nc = s
	return nil
}

// giveBack makes the client's connection one of the runtime again, if it is not.
// Should that fail, it is a closed one.
func (c *Client) giveBack() {
	s, ok := c.nc.(*socket)
	if !ok {
		return
	}
	f := os.NewFile(uintptr(s.fd), "")
	defer f.Close()
	c.nc = s.Conn
	if nc, err := net.FileConn(f); err == nil { // it has a descriptor of its own
		c.nc = nc
	}
}

// reason is why the connection broke with err: a broker that closes says why, and
// then a write may fail before that is read.
func (c *Client) reason(err error) error {
	s, ok := c.nc.(*socket)
	if _, broken := errors.AsType[*net.OpError](err); !ok || !broken {
		return err
	}
	s.wait, s.once = 0, false
	if why, ok := errors.AsType[*CloseError](c.Await(wire.IDConnectionCloseOk)); ok { // which does not come
		return why
	}
	return err
}

func (s *socket) Close() error { return syscall.Close(s.fd) }

func (s *socket) Read(b []byte) (int, error) {
	wait := s.wait
	if wait == spent {
		return 0, errAgain
	}
	if s.once {
		s.wait = spent
	}
	flags := 0
	if wait < never {
		flags = unix.MSG_DONTWAIT
	}
	if wait > 0 && wait < never {
		if what, err := s.poll(unix.POLLIN, min(wait, patience)); err != nil {
			return 0, err
		} else if what == 0 {
			return 0, errAgain
		}
	}
	for wait < never || !s.ending.Load() {
		n, e := s.receive(b, flags)
		switch {
		case e == 0 && n == 0 && len(b) > 0:
			return 0, io.EOF
		case e == 0:
			return n, nil
		case e != syscall.EAGAIN && e != syscall.EINTR:
			return 0, s.failed("read", e)
		case wait < never:
			return 0, errAgain
		}
	}
	return 0, os.ErrDeadlineExceeded
}

// receive is one system call; it waits for patience at most. It must be a function:
// calling one is where a goroutine looks whether the runtime wants it to stop.
//
//go:noinline
func (s *socket) receive(b []byte, flags int) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(flags), 0, 0)
	return int(n), e
}

// Write waits until all of b is written; when the run has ended, not much longer.
func (s *socket) Write(b []byte) (int, error) {
	var end time.Time
	for done := 0; ; {
		rest := b[done:]
		s.writes++
		n, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(rest))), uintptr(len(rest)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch e {
		case 0:
			if done += int(n); done == len(b) {
				return done, nil
			}
		case syscall.EAGAIN, syscall.EINTR:
		default:
			return done, s.failed("write", e)
		}
		if s.ending.Load() {
			if end.IsZero() {
				end = time.Now().Add(leaveTime / 2)
			} else if time.Now().After(end) {
				return done, os.ErrDeadlineExceeded
			}
		}
		if err := s.room(); err != nil {
			return done, err
		}
	}
}

// room waits until there may be room to write.
func (s *socket) room() error {
	events := int16(unix.POLLOUT)
	if s.meanwhile != nil {
		events |= unix.POLLIN
	}
	what, err := s.poll(events, patience)
	if err == nil && what&^unix.POLLOUT != 0 && s.meanwhile != nil {
		return s.meanwhile()
	}
	return err
}

// poll waits for events, and says which there are.
func (s *socket) poll(events int16, nanos int64) (what int16, err error) {
	set := unix.PollFd{Fd: int32(s.fd), Events: events}
	ts := unix.NsecToTimespec(nanos)
	_, _, e := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&set)), 1, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if e != 0 && e != syscall.EINTR {
		return 0, s.failed("poll", e)
	}
	return set.Revents, nil
}

// failed is the error that the net package would return.
func (s *socket) failed(op string, e syscall.Errno) error {
	return &net.OpError{Op: op, Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError(op, e)}
}

// burst is after how many writes drive looks for what has come. It bounds by how
// much a confirm seems to be late.
const burst = 16

// drive is write and read in one: it publishes and takes in confirms until the run
// ends or the connection breaks.
func (p *publisher) drive(s *socket) error {
	s.once, s.wait = true, spent
	s.meanwhile = func() error { return p.look(s, 0) } // the broker may not read on before its confirms are read
	p.begin()
	if p.rate > 0 {
		precise()
	}
	for writes := 0; !p.r.ending.Load(); {
		frames, until := p.step()
		if frames != nil {
			if err := p.c.Write(frames); err != nil {
				return err
			}
			if writes++; writes < burst {
				continue
			}
		}
		writes = 0
		if until > 0 && until < never {
			until = max(until-p.r.since(), 0)
		}
		if err := p.look(s, until); err != nil {
			return err
		}
	}
	return nil
}

// look takes in what one read brings, for which it may wait.
func (p *publisher) look(s *socket, wait int64) error {
	s.wait = wait
	if err := p.read(); !errors.Is(err, errAgain) {
		return err
	}
	return nil
}
