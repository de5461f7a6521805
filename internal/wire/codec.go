package wire

import (
	"encoding/binary"
	"strconv"
	"unicode/utf8"
)

//go:generate go run gen.go

// Longest string of each kind (specification 4.2.5.3).
const maxShortBytes = 255

// reader takes values off the front of b. The first value that does not fit
// sets bad and empties b; every later read then returns zero, so that callers
// check once at the end. Strings and tables are copied out of b.
type reader struct {
	b       []byte
	bad     bool
	badUTF8 bool // a short string of a method is no UTF-8
}

func (r *reader) fail() {
	r.b = nil
	r.bad = true
}

// take returns the next n bytes, aliasing the input, or nil if they are not
// all there.
func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) octet() uint8 {
	if len(r.b) < 1 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) short() uint16 {
	if len(r.b) < 2 {
		r.fail()
		return 0
	}
	v := binary.BigEndian.Uint16(r.b)
	r.b = r.b[2:]
	return v
}

func (r *reader) long() uint32 {
	if len(r.b) < 4 {
		r.fail()
		return 0
	}
	v := binary.BigEndian.Uint32(r.b)
	r.b = r.b[4:]
	return v
}

func (r *reader) longlong() uint64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

// shortBytes returns the bytes of a short string, aliasing the input.
func (r *reader) shortBytes() []byte { return r.take(int(r.octet())) }

// longBytes returns the bytes of a long string, aliasing the input. The length
// is compared as 64 bits: on a 32-bit machine int could be negative.
func (r *reader) longBytes() []byte {
	n := r.long()
	if uint64(n) > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	return r.take(int(n))
}

func (r *reader) shortstr() string {
	b := r.shortBytes()
	r.badUTF8 = r.badUTF8 || !utf8.Valid(b)
	return string(b)
}

func (r *reader) longstr() string { return string(r.longBytes()) }

func (r *reader) skipShort()    { r.short() }
func (r *reader) skipShortstr() { r.shortBytes() }
func (r *reader) skipLongstr()  { r.longBytes() }

func (r *reader) table() Table {
	t, n, err := ParseTable(r.b)
	if err != nil {
		r.fail()
		return nil
	}
	r.b = r.b[n:]
	return t
}

func bit(v bool, n uint) uint8 {
	if v {
		return 1 << n
	}
	return 0
}

func appendOctet(dst []byte, v uint8) []byte   { return append(dst, v) }
func appendShort(dst []byte, v uint16) []byte  { return binary.BigEndian.AppendUint16(dst, v) }
func appendLong(dst []byte, v uint32) []byte   { return binary.BigEndian.AppendUint32(dst, v) }
func appendTable(dst []byte, t Table) []byte   { return AppendTable(dst, t) }
func appendLonglong(d []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(d, v) }

// appendShortstr cuts s at 255 bytes: the length octet cannot say more, and a
// cut string damages one value where a wrong length would damage the stream.
// Whoever accepts the string from outside checks its length first.
func appendShortstr(dst []byte, s string) []byte {
	if len(s) > maxShortBytes {
		s = s[:maxShortBytes]
	}
	dst = append(dst, uint8(len(s)))
	return append(dst, s...)
}

func appendLongstr(dst []byte, s string) []byte {
	dst = appendLong(dst, uint32(len(s)))
	return append(dst, s...)
}

// Method is one decoded method. The implementations are pointers to the
// structs of methods_gen.go (*BasicPublish and so on).
type Method interface {
	// ID is the class and method id.
	ID() MethodID
	// AppendTo appends the payload of the method frame: both ids, then the
	// arguments. Short strings longer than 255 bytes are cut there.
	AppendTo(dst []byte) []byte
}

// String is the method's name as RabbitMQ's texts have it, e.g.
// "basic.publish", or "class.method" in numbers if there is no such method.
func (m MethodID) String() string {
	if s := methodName(m); s != "" {
		return s
	}
	return strconv.Itoa(int(m.Class())) + "." + strconv.Itoa(int(m.Method()))
}

// Known reports whether the protocol has a method with this id.
func (m MethodID) Known() bool { return methodName(m) != "" }

// DecodeErrorKind says what DecodeMethod could not do.
type DecodeErrorKind uint8

const (
	// Malformed arguments: too short, a bad table, or bytes left over.
	Malformed DecodeErrorKind = iota
	// UnknownMethod is a class and method id that the protocol does not have.
	UnknownMethod
	// BadUTF8: a short string among the arguments is no UTF-8. (basic.publish,
	// read by ScanPublish, takes any bytes, as RabbitMQ does.)
	BadUTF8
)

// DecodeError is what DecodeMethod returns for a payload it cannot decode.
type DecodeError struct {
	Kind   DecodeErrorKind
	Method MethodID // 0 if the payload is too short to hold it
	Args   []byte   // the undecodable arguments; aliases the payload
}

// Error implements error.
func (e *DecodeError) Error() string {
	if e.Kind == UnknownMethod {
		return "unknown method " + e.Method.String()
	}
	return "malformed arguments of method " + e.Method.String()
}

// DecodeMethod decodes the payload of a method frame. The result is a pointer
// to one of the method structs and keeps nothing of payload. The error is
// always a *DecodeError. Bytes after the last argument are an error.
func DecodeMethod(payload []byte) (Method, error) {
	if len(payload) < 4 {
		return nil, &DecodeError{Kind: Malformed, Args: payload}
	}
	id := MethodID(binary.BigEndian.Uint32(payload))
	r := reader{b: payload[4:]}
	m := decodeArgs(id, &r)
	if m == nil {
		return nil, &DecodeError{Kind: UnknownMethod, Method: id, Args: payload[4:]}
	}
	if r.badUTF8 && id != IDBasicPublish {
		return nil, &DecodeError{Kind: BadUTF8, Args: payload[4:]}
	}
	if r.bad || len(r.b) > 0 {
		return nil, &DecodeError{Kind: Malformed, Method: id, Args: payload[4:]}
	}
	return m, nil
}

// PeekMethod returns the id of a method frame's payload, 0 if it is too short.
func PeekMethod(payload []byte) MethodID {
	if len(payload) < 4 {
		return 0
	}
	return MethodID(binary.BigEndian.Uint32(payload))
}
