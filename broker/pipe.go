package broker

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// pipeBytes is how much one direction of an in-process connection holds before
// writers wait: as much as a socket buffer.
const pipeBytes = 256 << 10

// pipe makes an in-process connection: unlike net.Pipe it is buffered, so that
// both ends can write at the same time, as they may on a socket.
func pipe() (client, server net.Conn) {
	a, b := newFlow(), newFlow()
	return &pipeEnd{in: a, out: b}, &pipeEnd{in: b, out: a}
}

// pipeAddr is the address of both ends. It is a loopback address, because that
// is where they are.
var pipeAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}

// pipeEnd is one end of a pipe.
type pipeEnd struct{ in, out *flow }

func (p *pipeEnd) Read(b []byte) (int, error)  { return p.in.read(b) }
func (p *pipeEnd) Write(b []byte) (int, error) { return p.out.write(b) }
func (p *pipeEnd) LocalAddr() net.Addr         { return pipeAddr }
func (p *pipeEnd) RemoteAddr() net.Addr        { return pipeAddr }

// WriteNow writes as much as there is room for, and does not wait. Both ends
// look for it: package reliable and amqpserver.
func (p *pipeEnd) WriteNow(b []byte) (int, error) { return p.out.writeNow(b) }

// Close ends both directions: the peer reads what was written, then EOF.
func (p *pipeEnd) Close() error {
	p.in.close(true)
	p.out.close(false)
	return nil
}

// CloseWrite ends this end's direction only, as a TCP connection's does.
func (p *pipeEnd) CloseWrite() error {
	p.out.close(false)
	return nil
}

func (p *pipeEnd) SetDeadline(t time.Time) error {
	p.in.readLimit.set(p.in, t)
	p.out.writeLimit.set(p.out, t)
	return nil
}

func (p *pipeEnd) SetReadDeadline(t time.Time) error {
	p.in.readLimit.set(p.in, t)
	return nil
}

func (p *pipeEnd) SetWriteDeadline(t time.Time) error {
	p.out.writeLimit.set(p.out, t)
	return nil
}

// flow is one direction: a ring of bytes that grows up to pipeBytes.
type flow struct {
	mu           sync.Mutex
	change       sync.Cond
	buf          []byte
	start, used  int
	readerClosed bool // writes fail
	writerClosed bool // reads end once the ring is empty
	readLimit    limit
	writeLimit   limit
}

func newFlow() *flow {
	f := &flow{buf: make([]byte, 4096)}
	f.change.L = &f.mu
	return f
}

func (f *flow) read(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case f.readerClosed:
			return 0, net.ErrClosed
		case f.readLimit.passed:
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case f.used > 0:
			n := copy(b, f.buf[f.start:min(f.start+f.used, len(f.buf))])
			f.start = (f.start + n) % len(f.buf)
			f.used -= n
			if n < len(b) && f.used > 0 {
				m := copy(b[n:], f.buf[f.start:f.start+f.used])
				f.start, f.used = f.start+m, f.used-m
				n += m
			}
			f.change.Broadcast()
			return n, nil
		case f.writerClosed:
			return 0, io.EOF
		}
		f.change.Wait()
	}
}

func (f *flow) write(b []byte) (written int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		n, err := f.put(b[written:])
		written += n
		if err != nil || written == len(b) {
			return written, err
		}
		f.change.Wait()
	}
}

func (f *flow) writeNow(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.put(b)
}

// put writes what there is room for.
func (f *flow) put(b []byte) (written int, err error) {
	switch {
	case f.writerClosed:
		return 0, net.ErrClosed
	case f.readerClosed:
		return 0, io.ErrClosedPipe
	case f.writeLimit.passed:
		return 0, os.ErrDeadlineExceeded
	}
	f.grow(len(b))
	for written < len(b) && f.used < len(f.buf) { // twice, if the room goes round the end
		end := (f.start + f.used) % len(f.buf)
		room := len(f.buf) - f.used
		n := copy(f.buf[end:min(end+room, len(f.buf))], b[written:])
		f.used += n
		written += n
	}
	if written > 0 {
		f.change.Broadcast()
	}
	return written, nil
}

// grow makes room for n bytes more, within pipeBytes.
func (f *flow) grow(n int) {
	want := len(f.buf)
	for want < f.used+n && want < pipeBytes {
		want *= 2
	}
	if want == len(f.buf) {
		return
	}
	bigger := make([]byte, want)
	k := copy(bigger, f.buf[f.start:min(f.start+f.used, len(f.buf))])
	copy(bigger[k:], f.buf[:f.used-k])
	f.buf, f.start = bigger, 0
}

// close ends one side's use of the flow. A timer of that side would keep the flow in
// memory for as long as it runs, which may be minutes.
func (f *flow) close(byReader bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if byReader {
		f.readerClosed = true
		f.readLimit.end()
		f.buf, f.start, f.used = nil, 0, 0 // nobody will read it
	} else {
		f.writerClosed = true
		f.writeLimit.end()
	}
	f.change.Broadcast()
}

// limit is a deadline. Its fields are guarded by the flow's lock.
type limit struct {
	passed bool
	timer  *time.Timer
	number uint64 // number of the last set, so that an old timer does nothing
	over   bool   // its side is closed: there is nothing to limit
}

// end is called with the flow's lock held.
func (l *limit) end() {
	l.over = true
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

func (l *limit) set(f *flow, t time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l.over {
		return
	}
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	l.number++
	l.passed = false
	if t.IsZero() {
		return
	}
	d := time.Until(t)
	if d <= 0 {
		l.passed = true
		f.change.Broadcast()
		return
	}
	number := l.number
	l.timer = time.AfterFunc(d, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if l.number == number {
			l.passed = true
			f.change.Broadcast()
		}
	})
}
