package session_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/core/session"
	"github.com/warrenmq/warren/internal/wire"
)

const crumbBytes = 4096 // body frames smaller than this are merged

func appendPublish(dst []byte, bodyBytes uint64) []byte {
	dst = wire.AppendMethodFrame(dst, 7, &wire.BasicPublish{Exchange: "x", RoutingKey: "key"})
	p := wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: 2}
	return wire.AppendHeaderFrame(dst, 7, bodyBytes, p.AppendTo(nil))
}

func appendBody(dst, payload []byte) []byte {
	dst, mark := wire.BeginFrame(dst, wire.FrameBody, 7)
	return wire.EndFrame(append(dst, payload...), mark)
}

// feed hands the frames in buf to c as a reader does, and returns when the
// content is complete or the frames are over. Heartbeats are not for c.
func feed(t interface{ Fatalf(string, ...any) }, c *session.Content, buf []byte, frameMax uint32, maxBody uint64) (done bool) {
	for at := 0; at < len(buf); {
		f, n, err := wire.ParseFrame(buf[at:], 0)
		if err != nil || n == 0 {
			t.Fatalf("the test's own frames do not parse: %v", err)
		}
		frame := buf[at : at+n]
		at += n
		var werr *wire.Error
		switch f.Type {
		case wire.FrameMethod:
			if c.Busy() {
				t.Fatalf("busy before the publish")
			}
			c.Begin(frame, frameMax)
		case wire.FrameHeader:
			if !c.WantsHeader() {
				t.Fatalf("wants no header")
			}
			h, err := wire.ScanHeader(f.Payload)
			if err != nil {
				t.Fatalf("header: %v", err)
			}
			done, werr = c.Header(frame, &h, maxBody)
		case wire.FrameBody:
			done, werr = c.Body(frame)
		}
		if werr != nil {
			t.Fatalf("frame of type %d: %v", f.Type, werr)
		}
		if done != (!c.Busy()) && f.Type != wire.FrameHeartbeat {
			t.Fatalf("done is %t, busy %t", done, c.Busy())
		}
	}
	return done
}

// checkRecord checks that the complete content is a record of just that body,
// in frames that fit, without crumbs that could be one.
func checkRecord(t interface{ Fatalf(string, ...any) }, c *session.Content, body []byte, frameMax uint32) {
	r := message.Record(c.Raw())
	if string(r.Exchange()) != "x" || string(r.Key()) != "key" || r.BodyBytes() != uint64(len(body)) {
		t.Fatalf("the record is of %q %q, %d bytes", r.Exchange(), r.Key(), r.BodyBytes())
	}
	if p, err := r.Properties(); err != nil || p.DeliveryMode != 2 {
		t.Fatalf("properties %+v, %v", p, err)
	}
	if got := r.AppendBody(nil); !bytes.Equal(got, body) {
		t.Fatalf("the body has %d bytes, want %d, or other ones", len(got), len(body))
	}
	before := crumbBytes
	for at, i := 0, 0; at < len(r); i++ {
		f, n, err := wire.ParseFrame(r[at:], 0)
		if err != nil || n == 0 {
			t.Fatalf("frame %d of the record does not parse: %v", i, err)
		}
		at += n
		if i < 2 {
			continue
		}
		size := len(f.Payload)
		if f.Type != wire.FrameBody || size == 0 {
			t.Fatalf("frame %d is of type %d with %d bytes", i, f.Type, size)
		}
		if n > int(frameMax) && frameMax > 0 {
			t.Fatalf("frame %d has %d bytes, at most %d agreed", i, n, frameMax)
		}
		if before < crumbBytes && size < crumbBytes && (frameMax == 0 || before+size+wire.FrameOverhead <= int(frameMax)) {
			t.Fatalf("crumbs of %d and %d bytes stand side by side", before, size)
		}
		before = size
	}
}

// TestDivertedContent: the caller takes the body; the record is the rest, and what
// comes is checked as ever.
func TestDivertedContent(t *testing.T) {
	var c session.Content
	head := appendPublish(nil, 10_000)
	feed(t, &c, head, 0, 1<<20)
	if !c.Kept() {
		t.Error("the body that is to come will not be kept")
	}
	c.Divert()
	c.Detach()
	feed(t, &c, appendBody(nil, make([]byte, 100)), 0, 1<<20) // a crumb
	if done, err := c.Body(appendBody(nil, make([]byte, 9_901))); done || err == nil {
		t.Errorf("a body that is too long: done %t, %v", done, err)
	}
	if !feed(t, &c, appendBody(nil, make([]byte, 9_900)), 0, 1<<20) || !c.Diverted() {
		t.Error("not done")
	}
	if !bytes.Equal(c.Raw(), head) || !c.Owned() {
		t.Errorf("the record has %d bytes, want the %d of its head", len(c.Raw()), len(head))
	}
	if feed(t, &c, appendPublish(nil, 10), 0, 1<<20); c.Diverted() {
		t.Error("the next one is diverted as well")
	}
	c.Abandon()
	feed(t, &c, appendPublish(nil, 10_000), 0, 100)
	if c.Divert(); c.Kept() || c.Diverted() {
		t.Error("a body that is too large is not dropped")
	}
}

// TestContentIsTheBody sends bodies cut into frames at random, over read
// buffers that end at random and are overwritten after that, with other frames
// in between: the record always equals the body.
func TestContentIsTheBody(t *testing.T) {
	noise := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	rapid.Check(t, func(t *rapid.T) {
		var c session.Content
		buf := make([]byte, 0, 256<<10)
		used := 0 // of buf, by frames that c has seen
		for range rapid.IntRange(1, 5).Draw(t, "messages") {
			frameMax := uint32(rapid.SampledFrom([]int{0, 4096, 5000, 131072}).Draw(t, "frame max"))
			limit := 40000
			if frameMax != 0 {
				limit = int(frameMax) - wire.FrameOverhead
			}
			body := noise[rapid.IntRange(0, 15).Draw(t, "start"):]
			body = body[:rapid.SampledFrom([]int{0, 1, 10, 5000, 9000, 30000}).Draw(t, "body bytes")]
			frames := [][]byte{appendPublish(nil, uint64(len(body)))}
			frames = append(frames, cutBody(t, body, limit)...)
			done := false
			for i, f := range frames {
				if len(buf)+len(f) > cap(buf) || i > 0 && rapid.IntRange(0, 5).Draw(t, "buffer ends") == 0 {
					c.Detach()
					buf = buf[:cap(buf)]
					for i := range buf {
						buf[i] = 0xEE
					}
					buf, used = buf[:0], 0
				}
				buf = append(buf, f...)
				done = feed(t, &c, buf[used:], frameMax, 1<<20)
				used = len(buf)
			}
			if !done || c.Busy() || c.TooLarge(1<<20) != nil {
				t.Fatalf("all frames are in; done %t, busy %t", done, c.Busy())
			}
			checkRecord(t, &c, body, frameMax)
			if rapid.Bool().Draw(t, "trim") {
				c.Trim()
			}
		}
	})
}

// cutBody cuts a body into frames, with empty ones and frames for others in
// between, but not after the last.
func cutBody(t *rapid.T, body []byte, limit int) (frames [][]byte) {
	crumbs := rapid.Bool().Draw(t, "crumbs")
	for len(body) > 0 {
		n := min(limit, len(body))
		if crumbs || rapid.IntRange(0, 3).Draw(t, "short") == 0 {
			n = min(n, rapid.SampledFrom([]int{200, 1000, 3000, 4095, 4096}).Draw(t, "frame bytes"))
		}
		switch rapid.IntRange(0, 7).Draw(t, "between") {
		case 0:
			frames = append(frames, appendBody(nil, nil))
		case 1:
			frames = append(frames, wire.AppendHeartbeat(nil))
		}
		frames = append(frames, appendBody(nil, body[:n]))
		body = body[n:]
	}
	return frames
}

// Frames that stand side by side in the read buffer are not copied.
func TestContentPointsIntoTheBuffer(t *testing.T) {
	for _, body := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("y"), 4096)} {
		buf := append(make([]byte, 0, 32<<10), "before"...)
		from := len(buf)
		buf = appendPublish(buf, uint64(len(body)))
		if len(body) > 0 {
			buf = appendBody(buf, body)
		}
		to := len(buf)
		buf = append(buf, "what comes after"...)
		var c session.Content
		if !feed(t, &c, buf[from:to], 4104, 1<<20) {
			t.Fatalf("%d bytes: not complete", len(body))
		}
		if c.Owned() || &c.Raw()[0] != &buf[from] || len(c.Raw()) != to-from {
			t.Errorf("%d bytes: owned %t, %d bytes of %d", len(body), c.Owned(), len(c.Raw()), to-from)
		}
		checkRecord(t, &c, body, 4104)
		if string(buf[to:]) != "what comes after" {
			t.Errorf("%d bytes: the buffer behind it is overwritten: %q", len(body), buf[to:])
		}
	}
}

// Whole frames of several read in one buffer stay there too, and are copied
// once the buffer is reused in the middle; what comes after it in the buffer is
// never written to.
func TestContentDetaches(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 1500)
	frames := func() []byte {
		b := appendPublish(make([]byte, 0, 64<<10), uint64(len(body)))
		b = appendBody(b, body[:5000])
		b = appendBody(b, body[5000:10000])
		return appendBody(b, body[10000:])
	}
	var c session.Content
	whole := frames()
	if !feed(t, &c, whole, 8192, 1<<20) || c.Owned() || &c.Raw()[0] != &whole[0] {
		t.Fatalf("one buffer: owned %t", c.Owned())
	}
	checkRecord(t, &c, body, 8192)
	for cut := 0; cut < len(whole); {
		_, n, _ := wire.ParseFrame(whole[cut:], 0)
		cut += n
		if cut == len(whole) {
			break
		}
		buf := frames()
		feed(t, &c, buf[:cut], 8192, 1<<20)
		c.Detach()
		clear(buf[:cut])
		if !feed(t, &c, buf[cut:], 8192, 1<<20) || !c.Owned() {
			t.Fatalf("detached at %d: owned %t", cut, c.Owned())
		}
		checkRecord(t, &c, body, 8192)
	}
}

// Body frames that are crumbs become one, and empty ones nothing.
func TestContentMergesCrumbs(t *testing.T) {
	body := bytes.Repeat([]byte("abcdefg"), 1000)
	buf := appendPublish(nil, uint64(len(body)))
	for i := range body {
		buf = appendBody(buf, body[i:i+1])
		buf = appendBody(buf, nil)
	}
	var c session.Content
	at := len(buf) - len(appendBody(nil, nil)) // complete before the last empty one
	if !feed(t, &c, buf[:at], 4096, 1<<20) {
		t.Fatal("not complete")
	}
	checkRecord(t, &c, body, 4096)
	if got, most := len(c.Raw())-len(body), 200; got > most {
		t.Errorf("%d bytes of framing for 7000 crumbs, want at most %d", got, most)
	}
}

func TestContentTooLarge(t *testing.T) {
	body := make([]byte, 200_000)
	var c session.Content
	buf := appendPublish(nil, uint64(len(body)))
	head := len(buf)
	for at := 0; at < len(body); at += 50_000 {
		buf = appendBody(buf, body[at:at+50_000])
	}
	if !feed(t, &c, buf, 131072, 199_999) {
		t.Fatal("not complete")
	}
	err := c.TooLarge(199_999)
	if err == nil || err.Scope != wire.ScopeChannel ||
		err.ReplyText() != "PRECONDITION_FAILED - message size 200000 is larger than configured max size 199999" {
		t.Fatalf("TooLarge is %v", err)
	}
	if len(c.Raw()) != head {
		t.Errorf("%d bytes are kept of a body that is not wanted", len(c.Raw())-head)
	}
	// The next one is as good as any.
	buf = appendBody(appendPublish(nil, 1), []byte("x"))
	if !feed(t, &c, buf, 131072, 199_999) || c.TooLarge(199_999) != nil {
		t.Fatal("the message after it is not taken")
	}
	checkRecord(t, &c, []byte("x"), 131072)
	// Just at the limit is not over it.
	buf = appendBody(appendPublish(nil, 10), make([]byte, 10))
	if !feed(t, &c, buf, 131072, 10) || c.TooLarge(10) != nil {
		t.Fatal("a message of the largest size is not taken")
	}
}

func TestContentErrors(t *testing.T) {
	begin := func() *session.Content {
		c := &session.Content{}
		c.Begin(wire.AppendMethodFrame(nil, 7, &wire.BasicPublish{}), 4096)
		return c
	}
	header := func(change func(payload []byte)) func() *wire.Error {
		return func() *wire.Error {
			frame := wire.AppendHeaderFrame(nil, 7, 10, nil)
			change(frame[wire.FrameHeaderSize:])
			h, err := wire.ScanHeader(frame[wire.FrameHeaderSize : len(frame)-1])
			if err != nil {
				t.Fatal(err)
			}
			_, werr := begin().Header(frame, &h, 1<<40)
			return werr
		}
	}
	inBody := func() *session.Content {
		c := begin()
		frame := wire.AppendHeaderFrame(nil, 7, 10, nil)
		h, _ := wire.ScanHeader(frame[wire.FrameHeaderSize : len(frame)-1])
		if _, err := c.Header(frame, &h, 1<<40); err != nil {
			t.Fatal(err)
		}
		return c
	}
	cases := []struct {
		name string
		run  func() *wire.Error
		want string // "" for none
	}{
		{"no fault", header(func([]byte) {}), ""},
		{"weight", header(func(p []byte) { p[3] = 1 }),
			"UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"},
		{"another class", header(func(p []byte) { p[1] = 50 }),
			"UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead"},
		{"the largest there is", header(func(p []byte) { binary.BigEndian.PutUint64(p[4:], 512<<20) }), ""},
		{"larger than any", header(func(p []byte) { binary.BigEndian.PutUint64(p[4:], 512<<20+1) }),
			"FRAME_ERROR - content body size 536870913 exceeds maximum allowed size 536870912"},
		{"huge", header(func(p []byte) { binary.BigEndian.PutUint64(p[4:], 1<<64-1) }),
			"FRAME_ERROR - content body size 18446744073709551615 exceeds maximum allowed size 536870912"},
		{"no header", func() *wire.Error { return begin().WrongFrame() },
			"UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"},
		{"no body", func() *wire.Error { return inBody().WrongFrame() },
			"UNEXPECTED_FRAME - expected content body, got non content body frame instead"},
		{"body of the size", func() *wire.Error { _, err := inBody().Body(appendBody(nil, make([]byte, 10))); return err }, ""},
		{"body over the size", func() *wire.Error { _, err := inBody().Body(appendBody(nil, make([]byte, 11))); return err },
			"FRAME_ERROR - content body frame exceeds remaining content size"},
		{"second frame over the size", func() *wire.Error {
			c := inBody()
			if _, err := c.Body(appendBody(nil, make([]byte, 4))); err != nil {
				return err
			}
			_, err := c.Body(appendBody(nil, make([]byte, 7)))
			return err
		}, "FRAME_ERROR - content body frame exceeds remaining content size"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := c.run()
			switch {
			case c.want == "" && err == nil:
			case err == nil || err.ReplyText() != c.want:
				t.Errorf("got %v, want %q", err, c.want)
			case err.Scope != wire.ScopeConnection || err.Method != wire.IDBasicPublish:
				t.Errorf("scope %d, method %x", err.Scope, uint32(err.Method))
			}
		})
	}
}

// What a closing channel had half assembled is dropped, and large memory is
// given back.
func TestContentAbandonAndTrim(t *testing.T) {
	body := make([]byte, 100_000)
	half := appendBody(appendPublish(nil, uint64(len(body))), body[:100])
	var c session.Content
	feed(t, &c, half, 131072, 1<<20)
	c.Abandon()
	if c.Busy() {
		t.Fatal("busy after Abandon")
	}
	small := appendBody(appendPublish(nil, 2), []byte("ab"))
	if !feed(t, &c, small, 131072, 1<<20) {
		t.Fatal("not complete")
	}
	checkRecord(t, &c, []byte("ab"), 131072)

	buf := appendPublish(nil, uint64(len(body)))
	buf = appendBody(buf, body[:100])
	buf = appendBody(buf, body[100:])
	if !feed(t, &c, buf, 131072, 1<<20) || !c.Owned() {
		t.Fatalf("owned %t", c.Owned())
	}
	checkRecord(t, &c, body, 131072)
	c.Trim()
	if c.Raw() != nil {
		t.Errorf("%d bytes are kept after a large message", cap(c.Raw()))
	}
	feed(t, &c, half, 131072, 1<<20)
	c.Trim() // not in the middle of one
	if !feed(t, &c, appendBody(nil, body[100:]), 131072, 1<<20) {
		t.Fatal("not complete")
	}
	checkRecord(t, &c, body, 131072)
}

// Assembling allocates nothing once a channel has its memory.
func TestContentSteadyFlowAllocatesNothing(t *testing.T) {
	body := make([]byte, 20_000)
	frames := appendPublish(nil, uint64(len(body)))
	frames = appendBody(frames, body[:1000])
	frames = appendBody(frames, body[1000:])
	var c session.Content
	turn := func() { feed(t, &c, frames, 131072, 1<<20) }
	turn()
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations a message", n)
	}
	checkRecord(t, &c, body, 131072)
}
