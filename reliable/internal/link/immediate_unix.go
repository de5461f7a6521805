//go:build unix

package link

import "syscall"

// socketWriter writes to a socket, which Go keeps in non-blocking mode, past the
// poller that would wait. The function is for one goroutine at a time.
func socketWriter(conn syscall.Conn) func([]byte) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	var buf []byte
	var n int
	var failure error
	write := func(fd uintptr) bool { // once for all, so that a write allocates nothing
		n, failure = 0, syscall.EINTR
		for failure == syscall.EINTR {
			n, failure = syscall.Write(int(fd), buf)
		}
		return true // also if the socket is full: do not wait
	}
	return func(b []byte) (int, error) {
		buf = b
		err := raw.Write(write)
		buf = nil
		switch {
		case err != nil: // the socket is closed
			return 0, err
		case failure == syscall.EAGAIN:
			return 0, nil
		case failure != nil:
			return 0, failure
		}
		return n, nil
	}
}
