//go:build unix

package nowait

import "syscall"

func socketWriter(conn syscall.Conn) func([]byte) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	return once(raw.Write, syscall.Write)
}

func socketReader(conn syscall.Conn) func([]byte) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	return once(raw.Read, syscall.Read)
}

// once makes a function that calls a system call on a socket, which Go keeps in
// non-blocking mode, past the poller that would wait.
func once(poll func(func(uintptr) bool) error, call func(int, []byte) (int, error)) func([]byte) (int, error) {
	var buf []byte
	var n int
	var failure error
	try := func(fd uintptr) bool { // made once, so that a call allocates nothing
		n, failure = 0, syscall.EINTR
		for failure == syscall.EINTR {
			n, failure = call(int(fd), buf)
		}
		return true // whatever came of it: do not wait
	}
	return func(b []byte) (int, error) {
		buf = b
		err := poll(try)
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
