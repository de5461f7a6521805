package link

import "net"

// immediate is how to write to conn without waiting: as much as there is room for,
// which may be nothing. It is nil if that cannot be done.
//
// Sockets are known by their types, and not by having a SyscallConn: a type that
// wraps one and changes what is written would have that, too.
func immediate(conn net.Conn) func([]byte) (int, error) {
	switch conn := conn.(type) {
	case interface{ WriteNow([]byte) (int, error) }: // a broker inside the process
		return conn.WriteNow
	case *net.TCPConn:
		return socketWriter(conn)
	case *net.UnixConn:
		return socketWriter(conn)
	}
	return nil
}
