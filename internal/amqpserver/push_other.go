//go:build !unix

package amqpserver

import "net"

// socketOf is nil for anything but a TCP or Unix socket, and here for those too.
func socketOf(net.Conn) immediate { return nil }
