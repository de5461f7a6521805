package wire

import (
	"strconv"
	"strings"
)

// RabbitMQ puts the offending bytes of a frame into its error texts as Erlang
// prints a binary. Clients and test suites match these texts, so the printing
// is reproduced here: quoted if every byte is printable Latin-1, else a list
// of numbers, broken over lines to fit a terminal of 80 columns.

const (
	// snippetBytes is how much of a payload an error text shows.
	snippetBytes = 16
	// listColumns and termColumns are the columns that a list of numbers and a
	// term in braces may fill before Erlang's printer breaks the line.
	listColumns = 79
	termColumns = 78
	// unbroken is a starting column for a list of numbers on a single line.
	unbroken = -1 << 16
)

// Text is the explanation RabbitMQ gives for the broken frame, to follow
// "FRAME_ERROR - ".
func (e *FrameError) Text() string {
	text := FrameText(e.Type, e.Payload)
	name, args := "frame_too_large", []uint64{uint64(e.Size), uint64(e.Max)}
	if e.Kind == FrameBadEnd {
		name, args = "invalid_frame_end_marker", []uint64{uint64(e.End)}
	}
	text += ": "
	column := len(text) - strings.LastIndexByte(text, '\n') - 1
	term := "{" + name
	for _, a := range args {
		term += "," + strconv.FormatUint(a, 10)
	}
	term += "}"
	if column+len(term) > termColumns {
		indent := ",\n" + strings.Repeat(" ", column+1)
		term = strings.ReplaceAll(term, ",", indent)
	}
	return text + term
}

// FrameText describes a frame as RabbitMQ does, e.g. "type 8, all octets =
// <<>>" or "type 3, first 16 octets = <<0,1,...>>". It is the whole explanation
// of an UNEXPECTED_FRAME. The bytes of the payload appear in Latin-1, so the
// result may be invalid UTF-8.
func FrameText(frameType uint8, payload []byte) string {
	which := "all"
	if len(payload) > snippetBytes {
		which, payload = "first 16", payload[:snippetBytes]
	}
	text := "type " + strconv.Itoa(int(frameType)) + ", " + which + " octets = "
	if len(payload) > 0 && printable(payload) {
		return text + quoted(payload)
	}
	return text + numbers(payload, len(text))
}

// UnknownFrameText is the explanation of RabbitMQ's FRAME_ERROR for a frame of
// a type that does not exist, or whose payload cannot be of its type: a method
// frame under 4 bytes, a header frame under 12, a heartbeat that is not empty.
func UnknownFrameText(frameType uint8, payload []byte) string {
	return FrameText(frameType, payload) + ": unknown_frame"
}

// Text is the explanation RabbitMQ gives for a payload that does not decode, to
// follow "FRAME_ERROR - ".
func (e *DecodeError) Text() string {
	if e.Kind == BadUTF8 {
		return "Malformed UTF-8 in shortstr"
	}
	if e.Method == 0 {
		return UnknownFrameText(FrameMethod, e.Args)
	}
	// A reply text holds no more than 255 bytes; two per number is the least.
	args := e.Args[:min(len(e.Args), maxShortBytes/2)]
	return "cannot decode " + numbers(args, unbroken)
}

// printable reports whether Erlang prints the bytes as text.
func printable(b []byte) bool {
	for _, c := range b {
		if escape(c) == 0 && (c < ' ' || c >= 0x7F && c < 0xA0) {
			return false
		}
	}
	return true
}

// escape is the letter after the backslash for a byte that is written as an
// escape, else 0.
func escape(c byte) byte {
	switch c {
	case '\b':
		return 'b'
	case '\t':
		return 't'
	case '\n':
		return 'n'
	case '\v':
		return 'v'
	case '\f':
		return 'f'
	case '\r':
		return 'r'
	case 0x1B:
		return 'e'
	case '"', '\\':
		return c
	}
	return 0
}

func quoted(b []byte) string {
	out := []byte(`<<"`)
	for _, c := range b {
		if e := escape(c); e != 0 {
			out = append(out, '\\', e)
		} else {
			out = append(out, c)
		}
	}
	return string(append(out, `">>`...))
}

// numbers prints b as <<1,2,3>>, starting in the given column.
func numbers(b []byte, column int) string {
	out := []byte("<<")
	indent := column + len(out)
	at := indent
	for i, c := range b {
		item := strconv.Itoa(int(c))
		if i < len(b)-1 {
			item += ","
		}
		if at+len(item) > listColumns {
			out = append(out, '\n')
			out = append(out, strings.Repeat(" ", indent)...)
			at = indent
		}
		out = append(out, item...)
		at += len(item)
	}
	return string(append(out, ">>"...))
}
