package message

import (
	"encoding/binary"

	"github.com/warrenmq/warren/internal/wire"
)

// Record is a stored message: the frames of its publish as they came, back to
// back: basic.publish (with exchange and routing key), content header, bodies.
// It is valid by construction: session.Content and Build make it.
//
//	method frame: 1 | channel u16 | size u32 | 60 u16 | 40 u16 | 0 u16 | exchange shortstr | key shortstr | bits u8 | CE
//	header frame: 2 | channel u16 | size u32 | 60 u16 | 0 u16 | body size u64 | property flags and list | CE
//	body frames:  3 | channel u16 | size u32 | payload | CE
type Record []byte

const (
	exchangeAt  = wire.FrameHeaderSize + 6 // offset of the exchange shortstr
	bodySizeAt  = wire.FrameHeaderSize + 4 // offset of the body size within the header frame
	propsAt     = wire.FrameHeaderSize + 12
	methodBasic = 60
	idDeliver   = 60
	idGetOk     = 71
	idReturn    = 50
)

func frameLen(b []byte) int { return wire.FrameOverhead + int(binary.BigEndian.Uint32(b[3:])) }

// Exchange is the name of the exchange the message was published to.
func (r Record) Exchange() []byte {
	n := int(r[exchangeAt])
	return r[exchangeAt+1 : exchangeAt+1+n]
}

// Key is the routing key.
func (r Record) Key() []byte {
	at := exchangeAt + 1 + int(r[exchangeAt])
	n := int(r[at])
	return r[at+1 : at+1+n]
}

// Route is exchange and routing key as they stand: two short strings back to
// back. Equal routes have equal bytes, so it serves as a cache key.
func (r Record) Route() []byte {
	at := exchangeAt + 1 + int(r[exchangeAt])
	return r[exchangeAt : at+1+int(r[at])]
}

func (r Record) headerAt() int { return frameLen(r) }

// BodyBytes is the size of the body.
func (r Record) BodyBytes() uint64 {
	return binary.BigEndian.Uint64(r[r.headerAt()+bodySizeAt:])
}

// Props is the raw property flags and list.
func (r Record) Props() []byte {
	at := r.headerAt()
	return r[at+propsAt : at+frameLen(r[at:])-1]
}

// Properties decodes the properties.
func (r Record) Properties() (wire.Properties, error) { return wire.ParseProperties(r.Props()) }

// AppendBody appends the body without its framing.
func (r Record) AppendBody(dst []byte) []byte {
	at := r.headerAt()
	for at += frameLen(r[at:]); at < len(r); {
		n := frameLen(r[at:])
		dst = append(dst, r[at+wire.FrameHeaderSize:at+n-1]...)
		at += n
	}
	return dst
}

// Target is where frames go: the channel, and the receiver's frame_max in bytes
// (0 for no limit).
type Target struct {
	Channel  uint16
	FrameMax uint32
}

// AppendDeliver appends basic.deliver and the content.
func (r Record) AppendDeliver(dst []byte, t Target, consumerTag string, tag uint64, redelivered bool) []byte {
	route := r.Route()
	dst = appendMethodHead(dst, t.Channel, idDeliver, 4+1+len(consumerTag)+9+len(route))
	dst = append(dst, byte(len(consumerTag)))
	dst = append(dst, consumerTag...)
	dst = binary.BigEndian.AppendUint64(dst, tag)
	dst = append(dst, bit(redelivered))
	dst = append(dst, route...)
	dst = append(dst, wire.FrameEnd)
	return r.appendContent(dst, t)
}

// AppendGetOk appends basic.get-ok and the content.
func (r Record) AppendGetOk(dst []byte, t Target, tag uint64, redelivered bool, messageCount uint32) []byte {
	route := r.Route()
	dst = appendMethodHead(dst, t.Channel, idGetOk, 4+9+len(route)+4)
	dst = binary.BigEndian.AppendUint64(dst, tag)
	dst = append(dst, bit(redelivered))
	dst = append(dst, route...)
	dst = binary.BigEndian.AppendUint32(dst, messageCount)
	dst = append(dst, wire.FrameEnd)
	return r.appendContent(dst, t)
}

// AppendReturn appends basic.return and the content.
func (r Record) AppendReturn(dst []byte, t Target, code uint16, text string) []byte {
	route := r.Route()
	dst = appendMethodHead(dst, t.Channel, idReturn, 4+2+1+len(text)+len(route))
	dst = binary.BigEndian.AppendUint16(dst, code)
	dst = append(dst, byte(len(text)))
	dst = append(dst, text...)
	dst = append(dst, route...)
	dst = append(dst, wire.FrameEnd)
	return r.appendContent(dst, t)
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendMethodHead(dst []byte, channel, method uint16, payloadBytes int) []byte {
	return append(dst, wire.FrameMethod, byte(channel>>8), byte(channel),
		byte(payloadBytes>>24), byte(payloadBytes>>16), byte(payloadBytes>>8), byte(payloadBytes),
		0, methodBasic, byte(method>>8), byte(method))
}

// appendContent appends header and body frames as they are stored, with the
// channel number patched; only for a receiver with a smaller frame_max than the
// publisher's are the bodies cut anew.
func (r Record) appendContent(dst []byte, t Target) []byte {
	start := len(dst)
	dst = append(dst, r[r.headerAt():]...)
	hi, lo := byte(t.Channel>>8), byte(t.Channel)
	for at := start; at < len(dst); {
		n := frameLen(dst[at:])
		if t.FrameMax > 0 && n > int(t.FrameMax) {
			return r.appendReframed(dst[:start], t)
		}
		dst[at+1], dst[at+2] = hi, lo
		at += n
	}
	return dst
}

func (r Record) appendReframed(dst []byte, t Target) []byte {
	dst = wire.AppendHeaderFrame(dst, t.Channel, r.BodyBytes(), r.Props())
	return wire.AppendBodyFrames(dst, t.Channel, r.AppendBody(nil), t.FrameMax)
}

// Build makes a record from its parts. props is the raw property flags and list.
func Build(dst []byte, exchange, key string, props, body []byte, frameMax uint32) Record {
	dst = wire.AppendMethodFrame(dst, 0, &wire.BasicPublish{Exchange: exchange, RoutingKey: key})
	dst = wire.AppendHeaderFrame(dst, 0, uint64(len(body)), props)
	return wire.AppendBodyFrames(dst, 0, body, frameMax)
}

// Rewrite appends a copy of r with another route and other properties. The body
// frames are copied as they are.
func (r Record) Rewrite(dst []byte, exchange, key string, p *wire.Properties) Record {
	dst = wire.AppendMethodFrame(dst, 0, &wire.BasicPublish{Exchange: exchange, RoutingKey: key})
	dst = wire.AppendHeaderFrame(dst, 0, r.BodyBytes(), p.AppendTo(nil))
	at := r.headerAt()
	return append(dst, r[at+frameLen(r[at:]):]...)
}
