package wire

import (
	"encoding/binary"
	"errors"
)

const (
	classBasic = 60
	// headerFixedBytes is the part of a content header before the properties:
	// class, weight, body size.
	headerFixedBytes = 12
	// flagContinued announces a second word of flags, which class basic, with
	// its 14 properties, never has. RabbitMQ overlooks it, but raw properties
	// with it, passed on, would put a consumer's parser out of step.
	flagContinued = 1
	flagsKnown    = 0xFFFC
)

// What is wrong with a content header.
var (
	ErrHeaderShort = errors.New("content header: too short")
	ErrPropsFlags  = errors.New("content properties: more flags than class basic has")
	ErrPropsBounds = errors.New("content properties: a value is cut short")
	ErrPropsExtra  = errors.New("content properties: bytes after the last value")
)

// HeaderView is a content header. Props aliases the frame's payload.
type HeaderView struct {
	Class    uint16
	Weight   uint16 // always 0 (specification 4.2.6.1); the caller checks
	BodySize uint64 // bytes of body to come
	Props    []byte // flags and property list, for ScanProps or ParseProperties
}

// ScanHeader splits the payload of a header frame. It does not look into the
// properties, which may even be missing. The error is ErrHeaderShort, for which
// RabbitMQ's text is UnknownFrameText.
func ScanHeader(payload []byte) (HeaderView, error) {
	if len(payload) < headerFixedBytes {
		return HeaderView{}, ErrHeaderShort
	}
	return HeaderView{
		Class:    binary.BigEndian.Uint16(payload),
		Weight:   binary.BigEndian.Uint16(payload[2:]),
		BodySize: binary.BigEndian.Uint64(payload[4:]),
		Props:    payload[headerFixedBytes:],
	}, nil
}

// PropsView gives access to validated raw properties without decoding them
// all. What it returns aliases them. The zero value has no property.
type PropsView struct {
	raw          []byte // flags and list
	flags        uint16
	deliveryMode uint8
	priority     uint8
}

// ScanProps validates raw properties of class basic (flags and list), header
// table included, and accepts exactly what ParseProperties accepts. It
// allocates nothing. Errors are the ErrProps and ErrTable values, to all of
// which RabbitMQ answers INTERNAL_ERROR.
func ScanProps(props []byte) (PropsView, error) {
	if len(props) < 2 {
		return PropsView{}, ErrPropsBounds
	}
	flags := binary.BigEndian.Uint16(props)
	// What nearly every message carries: nothing, or a delivery mode alone.
	switch {
	case flags == 0 && len(props) == 2:
		return PropsView{raw: props}, nil
	case flags == FlagDeliveryMode && len(props) == 3:
		return PropsView{raw: props, flags: flags, deliveryMode: props[2]}, nil
	}
	return scanProps(props, flags)
}

func scanProps(props []byte, flags uint16) (PropsView, error) {
	if flags&flagContinued != 0 {
		return PropsView{}, ErrPropsFlags
	}
	v := PropsView{raw: props, flags: flags & flagsKnown}
	at := 2
	if flags&FlagContentType != 0 {
		at = skipShort(props, at)
	}
	if flags&FlagContentEncoding != 0 {
		at = skipShort(props, at)
	}
	if flags&FlagHeaders != 0 {
		if at > len(props) {
			return PropsView{}, ErrPropsBounds
		}
		n, err := checkTable(props[at:])
		if err != nil {
			return PropsView{}, err
		}
		at += n
	}
	if flags&FlagDeliveryMode != 0 {
		if at < len(props) {
			v.deliveryMode = props[at]
		}
		at++
	}
	if flags&FlagPriority != 0 {
		if at < len(props) {
			v.priority = props[at]
		}
		at++
	}
	if flags&flagsTail != 0 {
		at = skipTail(props, at, flags)
	}
	if at > len(props) {
		return PropsView{}, ErrPropsBounds
	}
	if at < len(props) {
		return PropsView{}, ErrPropsExtra
	}
	return v, nil
}

// flagsTail are the properties after priority.
const flagsTail = FlagCorrelationID | FlagReplyTo | FlagExpiration | FlagMessageID | FlagTimestamp |
	FlagType | FlagUserID | FlagAppID | FlagClusterID

// skipShort returns the offset after the short string at offset at. An offset
// past the end of b means that something did not fit, and stays past the end.
func skipShort(b []byte, at int) int {
	if at >= len(b) {
		return len(b) + 1
	}
	return at + 1 + int(b[at])
}

// skipTail returns the offset after the properties from correlation-id on.
func skipTail(b []byte, at int, flags uint16) int {
	for bit := uint16(FlagCorrelationID); bit >= FlagClusterID; bit >>= 1 {
		switch {
		case flags&bit == 0:
		case bit == FlagTimestamp:
			at += 8
		default:
			at = skipShort(b, at)
		}
	}
	return at
}

// Has reports whether the property with this Flag constant is present.
func (v *PropsView) Has(flag uint16) bool { return v.flags&flag != 0 }

// Flags are the presence bits, as in Properties.Flags.
func (v *PropsView) Flags() uint16 { return v.flags }

// Raw are the flags and list that were scanned.
func (v *PropsView) Raw() []byte { return v.raw }

// DeliveryMode is 2 for persistent, 1 for transient, 0 if absent; other values
// are as the publisher sent them.
func (v *PropsView) DeliveryMode() uint8 { return v.deliveryMode }

// Priority returns the priority, if present.
func (v *PropsView) Priority() (uint8, bool) { return v.priority, v.flags&FlagPriority != 0 }

// ContentType returns the content type, if present.
func (v *PropsView) ContentType() ([]byte, bool) { return v.short(FlagContentType) }

// CorrelationID returns the correlation id, if present.
func (v *PropsView) CorrelationID() ([]byte, bool) { return v.short(FlagCorrelationID) }

// ReplyTo returns the reply-to address, if present.
func (v *PropsView) ReplyTo() ([]byte, bool) { return v.short(FlagReplyTo) }

// Expiration returns the per-message TTL as sent: decimal milliseconds in
// text, not checked here.
func (v *PropsView) Expiration() ([]byte, bool) { return v.short(FlagExpiration) }

// MessageID returns the message id, if present.
func (v *PropsView) MessageID() ([]byte, bool) { return v.short(FlagMessageID) }

// UserID returns the user id, if present.
func (v *PropsView) UserID() ([]byte, bool) { return v.short(FlagUserID) }

// Timestamp returns the publisher's timestamp, if present.
func (v *PropsView) Timestamp() (Timestamp, bool) {
	if v.flags&FlagTimestamp == 0 {
		return 0, false
	}
	return Timestamp(binary.BigEndian.Uint64(v.raw[v.offset(FlagTimestamp):])), true
}

// Headers returns the entries of the header table without its u32 length, for
// TableLookup or ParseTableBody.
func (v *PropsView) Headers() ([]byte, bool) {
	if v.flags&FlagHeaders == 0 {
		return nil, false
	}
	b := v.raw[v.offset(FlagHeaders):]
	size := int(binary.BigEndian.Uint32(b))
	return b[4 : 4+size : 4+size], true
}

func (v *PropsView) short(flag uint16) ([]byte, bool) {
	if v.flags&flag == 0 {
		return nil, false
	}
	b := v.raw[v.offset(flag):]
	size := int(b[0])
	return b[1 : 1+size : 1+size], true
}

// offset is where the value of the present property flag starts in v.raw.
// ScanProps has checked every length on the way.
func (v *PropsView) offset(flag uint16) int {
	before := v.flags &^ (flag | (flag - 1)) // present and earlier in the list
	at := 2
	if before&FlagContentType != 0 {
		at += 1 + int(v.raw[at])
	}
	if before&FlagContentEncoding != 0 {
		at += 1 + int(v.raw[at])
	}
	if before&FlagHeaders != 0 {
		at += 4 + int(binary.BigEndian.Uint32(v.raw[at:]))
	}
	if before&FlagDeliveryMode != 0 {
		at++
	}
	if before&FlagPriority != 0 {
		at++
	}
	return skipTail(v.raw, at, before)
}

// ParseProperties decodes raw properties of class basic (flags and list) and
// keeps nothing of them. Errors are the ErrProps and ErrTable values.
func ParseProperties(raw []byte) (Properties, error) {
	v, err := ScanProps(raw)
	if err != nil {
		return Properties{}, err
	}
	p := Properties{Flags: v.flags, DeliveryMode: v.deliveryMode, Priority: v.priority}
	r := reader{b: raw[2:]}
	str := func(dst *string, flag uint16) {
		if v.Has(flag) {
			*dst = r.shortstr()
		}
	}
	str(&p.ContentType, FlagContentType)
	str(&p.ContentEncoding, FlagContentEncoding)
	if v.Has(FlagHeaders) {
		p.Headers = decodeTable(r.longBytes())
	}
	if v.Has(FlagDeliveryMode) {
		r.octet()
	}
	if v.Has(FlagPriority) {
		r.octet()
	}
	str(&p.CorrelationID, FlagCorrelationID)
	str(&p.ReplyTo, FlagReplyTo)
	str(&p.Expiration, FlagExpiration)
	str(&p.MessageID, FlagMessageID)
	if v.Has(FlagTimestamp) {
		p.Timestamp = Timestamp(r.longlong())
	}
	str(&p.Type, FlagType)
	str(&p.UserID, FlagUserID)
	str(&p.AppID, FlagAppID)
	str(&p.ClusterID, FlagClusterID)
	return p, nil
}

// AppendTo appends the flags and the list of the properties that Flags says
// are present; fields without their flag are left out. Strings longer than 255
// bytes are cut there.
func (p *Properties) AppendTo(dst []byte) []byte {
	dst = appendShort(dst, p.Flags&flagsKnown)
	str := func(s string, flag uint16) {
		if p.Flags&flag != 0 {
			dst = appendShortstr(dst, s)
		}
	}
	str(p.ContentType, FlagContentType)
	str(p.ContentEncoding, FlagContentEncoding)
	if p.Flags&FlagHeaders != 0 {
		dst = AppendTable(dst, p.Headers)
	}
	if p.Flags&FlagDeliveryMode != 0 {
		dst = append(dst, p.DeliveryMode)
	}
	if p.Flags&FlagPriority != 0 {
		dst = append(dst, p.Priority)
	}
	str(p.CorrelationID, FlagCorrelationID)
	str(p.ReplyTo, FlagReplyTo)
	str(p.Expiration, FlagExpiration)
	str(p.MessageID, FlagMessageID)
	if p.Flags&FlagTimestamp != 0 {
		dst = appendLonglong(dst, uint64(p.Timestamp))
	}
	str(p.Type, FlagType)
	str(p.UserID, FlagUserID)
	str(p.AppID, FlagAppID)
	str(p.ClusterID, FlagClusterID)
	return dst
}
