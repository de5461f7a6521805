//go:build !unix

package amqpserver

import "net"

// tryWriterOf is nil for a connection that cannot do it: here sockets cannot.
func tryWriterOf(nc net.Conn) tryWriter {
	w, _ := nc.(tryWriter)
	return w
}
