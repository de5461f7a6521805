package auth

import (
	"bytes"
	"time"

	"github.com/warrenmq/warren/internal/wire"
)

// Mechanisms is the space-separated list offered in connection.start.
const Mechanisms = "PLAIN AMQPLAIN"

// SilentCloseDelay is how long RabbitMQ keeps a refused connection open before
// it closes the socket without a word, to slow down guessing.
const SilentCloseDelay = 3 * time.Second

// Failure is a login that did not succeed, as data.
//
// What the client gets to see follows RabbitMQ: a refusal is announced with
// connection.close, but only to a client that has the capability
// authentication_failure_close; everything else (unknown mechanism, malformed
// response) only goes to the broker's log. A client that is told nothing has
// its socket closed after SilentCloseDelay.
type Failure struct {
	Err       *wire.Error // connection scope: 403, 502 or 503
	User      string      // the name the client gave, "" if it gave none
	Reason    string      // for the broker's log; never holds a password
	Announced bool        // may be sent to a client with authentication_failure_close
}

// Error implements error with the text for the log.
func (f *Failure) Error() string {
	if f.Reason == "" {
		return f.Err.Error()
	}
	if f.User == "" {
		return f.Err.Error() + " (" + f.Reason + ")"
	}
	return f.Err.Error() + " (user '" + f.User + "': " + f.Reason + ")"
}

// Unwrap gives the protocol error to errors.As.
func (f *Failure) Unwrap() error { return f.Err }

// Authenticate checks the mechanism and response of connection.start-ok.
// Loopback tells whether the peer address is a loopback address. It returns the
// user's name, or a Failure: 403 for wrong credentials or a user limited to
// loopback, 502 for a malformed response, 503 for an unknown mechanism.
// Response is not kept.
func (u *Users) Authenticate(mechanism string, response []byte, loopback bool) (string, *Failure) {
	var name, password string
	var f *Failure
	switch mechanism {
	case "PLAIN":
		name, password, f = parsePlain(response)
	case "AMQPLAIN":
		name, password, f = parseAMQPlain(response)
	default:
		f = &Failure{Err: wire.ConnectionError(wire.CommandInvalid, "unknown authentication mechanism '%s'", mechanism)}
	}
	if f != nil {
		return "", f
	}
	if reason, ok := u.verify(name, password, loopback); !ok {
		return "", refused(mechanism, name, reason)
	}
	return name, nil
}

func refused(mechanism, name, reason string) *Failure {
	return &Failure{
		Err: wire.ConnectionError(wire.AccessRefused,
			"Login was refused using authentication mechanism %s. For details see the broker logfile.", mechanism),
		User: name, Reason: reason, Announced: true,
	}
}

// malformed carries no part of the response, which may hold a password.
func malformed(format string, args ...any) *Failure {
	return &Failure{Err: wire.ConnectionError(wire.SyntaxError, format, args...)}
}

// parsePlain reads NUL user NUL password. Like RabbitMQ it refuses an
// authorization identity before the first NUL and anything after the password.
func parsePlain(response []byte) (name, password string, f *Failure) {
	rest, ok := bytes.CutPrefix(response, []byte{0})
	if ok {
		user, pass, found := bytes.Cut(rest, []byte{0})
		if found && !bytes.Contains(pass, []byte{0}) {
			return string(user), string(pass), nil
		}
	}
	return "", "", malformed("PLAIN response of %d bytes invalid", len(response))
}
