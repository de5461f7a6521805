package wire

import "fmt"

// Reply codes of AMQP 0-9-1 (specification 1.2) as RabbitMQ names them.
const (
	ReplySuccess       = 200
	ContentTooLarge    = 311
	NoRoute            = 312
	NoConsumers        = 313
	ConnectionForced   = 320
	InvalidPath        = 402
	AccessRefused      = 403
	NotFound           = 404
	ResourceLocked     = 405
	PreconditionFailed = 406
	FrameErrorCode     = 501
	SyntaxError        = 502
	CommandInvalid     = 503
	ChannelErrorCode   = 504
	UnexpectedFrame    = 505
	ResourceError      = 506
	NotAllowed         = 530
	NotImplemented     = 540
	InternalError      = 541
)

// Scope says what an Error closes.
type Scope uint8

const (
	// ScopeChannel errors close the channel they happened on.
	ScopeChannel Scope = iota
	// ScopeConnection errors close the whole connection.
	ScopeConnection
)

// Error is an AMQP exception as data: what closes, the code and text that the
// peer sees, and the method that failed (0 if none). It is returned by pure
// code and turned into channel.close or connection.close at the edge.
type Error struct {
	Scope  Scope
	Code   uint16
	Text   string   // explanation only; ReplyText adds the code's name
	Method MethodID // class and method that failed, 0 if unknown
}

// ChannelError makes an Error that closes the channel.
func ChannelError(code uint16, format string, args ...any) *Error {
	return &Error{Scope: ScopeChannel, Code: code, Text: fmt.Sprintf(format, args...)}
}

// ConnectionError makes an Error that closes the connection.
func ConnectionError(code uint16, format string, args ...any) *Error {
	return &Error{Scope: ScopeConnection, Code: code, Text: fmt.Sprintf(format, args...)}
}

// Unimplemented is RabbitMQ's answer to a method that clients have no use of.
func Unimplemented() *Error { return ConnectionError(CommandInvalid, "unimplemented method") }

// On returns a copy of e that names the failing method.
func (e *Error) On(m MethodID) *Error {
	c := *e
	c.Method = m
	return &c
}

// Error implements error with the text the peer sees.
func (e *Error) Error() string { return e.ReplyText() }

// ReplyText is the reply-text field of a close method: "NAME - explanation".
// A text over 255 bytes, the limit of a short string, is cut at 252 and ends
// in "...", as RabbitMQ does it; without an explanation the name stands alone.
func (e *Error) ReplyText() string {
	s := CodeName(e.Code)
	if e.Text != "" {
		s += " - " + e.Text
	}
	if len(s) > 255 {
		s = s[:252] + "..."
	}
	return s
}

// CodeName is the upper-case name of a reply code, as in reply texts.
func CodeName(code uint16) string {
	switch code {
	case ReplySuccess:
		return "OK"
	case ContentTooLarge:
		return "CONTENT_TOO_LARGE"
	case NoRoute:
		return "NO_ROUTE"
	case NoConsumers:
		return "NO_CONSUMERS"
	case ConnectionForced:
		return "CONNECTION_FORCED"
	case InvalidPath:
		return "INVALID_PATH"
	case AccessRefused:
		return "ACCESS_REFUSED"
	case NotFound:
		return "NOT_FOUND"
	case ResourceLocked:
		return "RESOURCE_LOCKED"
	case PreconditionFailed:
		return "PRECONDITION_FAILED"
	case FrameErrorCode:
		return "FRAME_ERROR"
	case SyntaxError:
		return "SYNTAX_ERROR"
	case CommandInvalid:
		return "COMMAND_INVALID"
	case ChannelErrorCode:
		return "CHANNEL_ERROR"
	case UnexpectedFrame:
		return "UNEXPECTED_FRAME"
	case ResourceError:
		return "RESOURCE_ERROR"
	case NotAllowed:
		return "NOT_ALLOWED"
	case NotImplemented:
		return "NOT_IMPLEMENTED"
	case InternalError:
		return "INTERNAL_ERROR"
	}
	return fmt.Sprintf("CODE_%d", code)
}

// MethodID is class id << 16 | method id.
type MethodID uint32

// Class is the class id, e.g. 60 for basic.
func (m MethodID) Class() uint16 { return uint16(m >> 16) }

// Method is the method id within its class.
func (m MethodID) Method() uint16 { return uint16(m) }
