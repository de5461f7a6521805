//go:build !linux

package amqpserver

import "net"

// quietSocketOf is nil for a connection that cannot do it: elsewhere none can.
func quietSocketOf(net.Conn) quietSocket { return nil }
