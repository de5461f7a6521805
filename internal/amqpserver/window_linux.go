package amqpserver

import (
	"net"
	"syscall"
)

// A receive window of about 32 KiB is full before a rest is over, even with the
// smallest messages. Smaller ones are no good on the loopback interface, whose segments
// of up to 64 KiB have to fit: a sender halves them to the largest window it has seen, and if
// one does not fit then, it waits for a timer. For the same reason a window that has been
// wide is not made narrow again.

// narrowBytes is half of what the system may keep for a connection that is not read,
// its own overhead included.
const narrowBytes = 32 << 10

// wideBytes is the same for a window that is made wide. The system goes on from there.
const wideBytes = 512 << 10

// soBufLock is SO_BUF_LOCK (Linux 5.15), which says whose care buffer sizes are:
// the system's, or with bufLockReceive that of receiving is as it was set.
const (
	soBufLock      = 0x48
	bufLockReceive = 2
)

// narrowWindows has the connections of a listener begin with a narrow window that the
// system widens as the connection needs it. Where it cannot be done, and that includes a
// listener with MPTCP, windows are as ever.
func narrowWindows(l net.Listener) {
	if tcp, ok := l.(*net.TCPListener); ok && setSocket(tcp, soBufLock, 0) {
		_ = setSocket(tcp, syscall.SO_RCVBUF, narrowBytes) && setSocket(tcp, soBufLock, 0)
	}
}

// narrowWindow keeps the window of a connection from the same machine narrow, until
// what it returns is called: nil if that window is not narrow.
func narrowWindow(nc net.Conn) (widen func()) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok || !isLoopback(nc.RemoteAddr()) || !isNarrow(tcp) || !setSocket(tcp, soBufLock, bufLockReceive) {
		return nil
	}
	return func() {
		setSocket(tcp, syscall.SO_RCVBUF, wideBytes)
		setSocket(tcp, soBufLock, 0)
	}
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// isNarrow tells whether the system has not widened the window yet.
func isNarrow(c syscall.Conn) bool {
	bytes := 0
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Control(func(fd uintptr) {
		bytes, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF)
	})
	return err == nil && 0 < bytes && bytes <= 2*narrowBytes
}

// setSocket sets an option of a socket, and tells whether that worked.
func setSocket(c syscall.Conn, option, value int) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	worked := false
	err = raw.Control(func(fd uintptr) {
		worked = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, option, value) == nil
	})
	return err == nil && worked
}
