// Package nowait reads and writes as much of a connection as is possible at once,
// and never waits: for callers that have something better to do than wait for a
// peer, or that save a switch to another goroutine.
//
// It goes past the poller, so the order of bytes is the caller's care: nobody else
// may read, or write, at the same time. What it returns is for one goroutine at a
// time, belongs to the connection, and allocates nothing when called.
//
// Sockets are known by their types, and not by having a SyscallConn: a type that
// wraps one and changes what is written, as TLS does, would have that, too.
package nowait

import (
	"net"
	"syscall"
)

// Writer is how to write to conn: as much as there is room for, which may be nothing.
// An error means that the connection is of no use any more. Writer is nil if conn can
// only wait; anything that has a method WriteNow can do it, and TCP and Unix sockets
// can on Unix systems.
func Writer(conn net.Conn) func([]byte) (int, error) {
	if w, ok := conn.(interface{ WriteNow([]byte) (int, error) }); ok { // a broker inside the process
		return w.WriteNow
	}
	if s := socketOf(conn); s != nil {
		return socketWriter(s)
	}
	return nil
}

// Reader is how to read from conn: what is there, which may be nothing. At the end
// there is nothing, too, and an ordinary read tells. Reader is nil if conn can only
// wait; TCP and Unix sockets can do it on Unix systems.
func Reader(conn net.Conn) func([]byte) (int, error) {
	if s := socketOf(conn); s != nil {
		return socketReader(s)
	}
	return nil
}

func socketOf(conn net.Conn) syscall.Conn {
	switch conn := conn.(type) {
	case *net.TCPConn:
		return conn
	case *net.UnixConn:
		return conn
	}
	return nil
}
