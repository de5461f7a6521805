package amqpserver

import (
	"net"
	"syscall"
)

// systemBytes is what connections from other machines begin with: about the system's own
// default.
const systemBytes = 64 << 10

// soBufLock is SO_BUF_LOCK (Linux 5.15), which says whose care buffer sizes are:
// the system's, or with bufLockReceive that of receiving is as it was set.
const (
	soBufLock      = 0x48
	bufLockReceive = 2
)

// tinyWindows has the connections of a listener begin with a tiny window that the
// system widens as the connection needs it. Where it cannot be done, and that includes a
// listener with MPTCP, windows are as ever.
func tinyWindows(l net.Listener) {
	if tcp, ok := l.(*net.TCPListener); ok && setSocket(tcp, soBufLock, 0) {
		_ = setSocket(tcp, syscall.SO_RCVBUF, tinyBytes) && setSocket(tcp, soBufLock, 0)
	}
}

// newWindow takes care of the window of a connection from the same machine, if it has
// begun tiny. Smaller ones than that are no good on the loopback interface: what a
// sender has gathered has to fit, in pieces of half the largest window it has seen, or it waits
// for a timer. For the same reason a window that has been wide is not made narrow again.
func newWindow(nc net.Conn) window {
	tcp, ok := nc.(*net.TCPConn)
	if !ok || !isTiny(tcp) {
		return window{}
	}
	if !isLoopback(nc.RemoteAddr()) {
		_ = setSocket(tcp, syscall.SO_RCVBUF, systemBytes) && setSocket(tcp, soBufLock, 0)
		return window{}
	}
	if !setSocket(tcp, soBufLock, bufLockReceive) {
		return window{}
	}
	return window{bytes: tinyBytes, clamp: windowClamp(tcp), set: func(bytes int) {
		setSocket(tcp, syscall.SO_RCVBUF, bytes)
		if bytes >= wideBytes {
			setSocket(tcp, soBufLock, 0)
		}
	}}
}

// windowClamp makes a function that sets TCP_WINDOW_CLAMP (tcp(7)). A failure leaves the
// window as it is.
func windowClamp(c syscall.Conn) func(bytes int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return func(int) {}
	}
	var value int
	set := func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_WINDOW_CLAMP, value)
	}
	return func(bytes int) {
		value = bytes
		_ = raw.Control(set)
	}
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// isTiny tells whether the system has not widened the window yet.
func isTiny(c syscall.Conn) bool {
	bytes := bufferBytes(c)
	return 0 < bytes && bytes <= 2*tinyBytes
}

// bufferBytes is the size of a socket's receive buffer, 0 if it has none.
func bufferBytes(c syscall.Conn) (bytes int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	if raw.Control(func(fd uintptr) {
		bytes, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF)
	}) != nil {
		return 0
	}
	return bytes
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
