package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Frame types (specification 4.2.3).
const (
	FrameMethod    = 1
	FrameHeader    = 2
	FrameBody      = 3
	FrameHeartbeat = 8
)

const (
	// FrameEnd is the octet after every frame's payload.
	FrameEnd = 0xCE
	// FrameHeaderSize is the bytes before the payload: type, channel, size.
	FrameHeaderSize = 7
	// FrameOverhead is the bytes of a frame that are not payload.
	FrameOverhead = FrameHeaderSize + 1
	// FrameMinSize is the smallest frame_max, in bytes, that a peer may ask
	// for (specification 1.4.1, frame-min-size).
	FrameMinSize = 4096
	// ProtocolHeader is what a client sends first (specification 4.2.2).
	ProtocolHeader = "AMQP\x00\x00\x09\x01"
)

// Frame is one frame. Payload aliases the buffer it was parsed from.
type Frame struct {
	Type    uint8
	Channel uint16
	Payload []byte
}

// FrameErrorKind says what is wrong with a frame.
type FrameErrorKind uint8

const (
	// FrameTooLarge is a payload size over the negotiated frame_max.
	FrameTooLarge FrameErrorKind = iota
	// FrameBadEnd is an octet other than FrameEnd after the payload.
	FrameBadEnd
)

// FrameError is what ParseFrame returns for bytes that are no frame. The
// stream is out of step after it: the connection can only be closed.
type FrameError struct {
	Kind    FrameErrorKind
	Type    uint8
	Channel uint16
	Size    uint32 // announced payload size in bytes
	Max     uint32 // largest payload that was agreed on, frame_max - 8
	End     uint8  // the octet found in place of FrameEnd (FrameBadEnd)
	Payload []byte // aliases the buffer (FrameBadEnd), else nil
}

// Error implements error.
func (e *FrameError) Error() string {
	if e.Kind == FrameTooLarge {
		return fmt.Sprintf("frame of type %d with %d bytes of payload, at most %d allowed", e.Type, e.Size, e.Max)
	}
	return fmt.Sprintf("frame of type %d ends in octet %d", e.Type, e.End)
}

// ParseFrame parses the frame at the start of buf and returns the bytes it
// takes; n == 0 without an error means that more bytes are needed. frameMax is
// the negotiated limit of a whole frame in bytes, 0 for none. Like RabbitMQ it
// lets 8 bytes more pass than agreed, so the payload alone may be frameMax
// bytes long. A frame that is too large is refused as soon as its 7 bytes of
// header are there. The error is always a *FrameError.
func ParseFrame(buf []byte, frameMax uint32) (f Frame, n int, err error) {
	if len(buf) < FrameHeaderSize {
		return Frame{}, 0, nil
	}
	size := binary.BigEndian.Uint32(buf[3:])
	if size > frameMax && frameMax != 0 {
		return Frame{}, 0, tooLarge(buf, frameMax)
	}
	if uint64(len(buf)) < uint64(size)+FrameOverhead {
		return Frame{}, 0, nil
	}
	end := FrameHeaderSize + int(size)
	if buf[end] != FrameEnd {
		return Frame{}, 0, badEnd(buf, end)
	}
	return Frame{
		Type:    buf[0],
		Channel: binary.BigEndian.Uint16(buf[1:]),
		Payload: buf[FrameHeaderSize:end:end],
	}, end + 1, nil
}

//go:noinline
func tooLarge(buf []byte, frameMax uint32) error {
	return &FrameError{
		Kind:    FrameTooLarge,
		Type:    buf[0],
		Channel: binary.BigEndian.Uint16(buf[1:]),
		Size:    binary.BigEndian.Uint32(buf[3:]),
		Max:     max(frameMax, FrameOverhead) - FrameOverhead,
	}
}

//go:noinline
func badEnd(buf []byte, end int) error {
	return &FrameError{
		Kind:    FrameBadEnd,
		Type:    buf[0],
		Channel: binary.BigEndian.Uint16(buf[1:]),
		Size:    binary.BigEndian.Uint32(buf[3:]),
		End:     buf[end],
		Payload: buf[FrameHeaderSize:end:end],
	}
}

// BeginFrame appends a frame header whose size is still open. mark goes to
// EndFrame once the payload is appended. With the concrete AppendTo of a
// method struct in between, a frame is written without allocating.
func BeginFrame(dst []byte, frameType uint8, channel uint16) (out []byte, mark int) {
	dst = append(dst, frameType, byte(channel>>8), byte(channel), 0, 0, 0, 0)
	return dst, len(dst)
}

// EndFrame fills in the size of the frame begun at mark and ends it.
func EndFrame(dst []byte, mark int) []byte {
	binary.BigEndian.PutUint32(dst[mark-4:], uint32(len(dst)-mark))
	return append(dst, FrameEnd)
}

// AppendMethodFrame appends a method frame.
func AppendMethodFrame(dst []byte, channel uint16, m Method) []byte {
	dst, mark := BeginFrame(dst, FrameMethod, channel)
	return EndFrame(m.AppendTo(dst), mark)
}

// AppendHeartbeat appends a heartbeat frame.
func AppendHeartbeat(dst []byte) []byte {
	return append(dst, FrameHeartbeat, 0, 0, 0, 0, 0, 0, FrameEnd)
}

// AppendHeaderFrame appends a content header frame of class basic. bodySize is
// in bytes; props are the raw flags and property list, empty for none.
func AppendHeaderFrame(dst []byte, channel uint16, bodySize uint64, props []byte) []byte {
	dst, mark := beginHeaderFrame(dst, channel, bodySize)
	if len(props) == 0 {
		dst = append(dst, 0, 0)
	}
	return EndFrame(append(dst, props...), mark)
}

func beginHeaderFrame(dst []byte, channel uint16, bodySize uint64) (out []byte, mark int) {
	dst, mark = BeginFrame(dst, FrameHeader, channel)
	dst = append(dst, 0, classBasic, 0, 0)
	return appendLonglong(dst, bodySize), mark
}

// AppendBodyFrames appends body in frames of at most frameMax bytes each
// (payload and overhead; 0 for no limit, anything under FrameMinSize counts as
// FrameMinSize). An empty body has no frames.
func AppendBodyFrames(dst []byte, channel uint16, body []byte, frameMax uint32) []byte {
	chunkBytes := math.MaxInt32
	if frameMax != 0 {
		chunkBytes = int(min(max(frameMax, FrameMinSize), math.MaxInt32)) - FrameOverhead
	}
	for len(body) > 0 {
		n := min(len(body), chunkBytes)
		var mark int
		dst, mark = BeginFrame(dst, FrameBody, channel)
		dst = EndFrame(append(dst, body[:n]...), mark)
		body = body[n:]
	}
	return dst
}

// AppendContent appends a method with its content: method frame, header frame
// and body frames. p may be nil for no properties.
func AppendContent(dst []byte, channel uint16, m Method, p *Properties, body []byte, frameMax uint32) []byte {
	dst = AppendMethodFrame(dst, channel, m)
	dst, mark := beginHeaderFrame(dst, channel, uint64(len(body)))
	if p == nil {
		p = &Properties{}
	}
	dst = EndFrame(p.AppendTo(dst), mark)
	return AppendBodyFrames(dst, channel, body, frameMax)
}
