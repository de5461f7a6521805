//go:build !linux

package amqpserver

import (
	"net"
	"time"
)

// quietSocketOf is nil for a connection that cannot do it: elsewhere none can.
func quietSocketOf(net.Conn) quietSocket { return nil }

// newAlarmClock has no better one than the runtime's.
func newAlarmClock() (rest func(time.Duration), stop func()) { return time.Sleep, func() {} }

// tinyWindows leaves windows as they are.
func tinyWindows(net.Listener) {}

// newWindow is one that is the system's care.
func newWindow(net.Conn) window { return window{} }
