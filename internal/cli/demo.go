package cli

import (
	"context"
	"net"

	"github.com/warrenmq/warren/broker"
)

// embeddedBroker starts a broker inside this process, for the demo.
func embeddedBroker(context.Context) (dial func(network, addr string) (net.Conn, error), stop func(), err error) {
	b, err := broker.Open(broker.Config{Version: Version()})
	if err != nil {
		return nil, nil, err
	}
	stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
		defer cancel()
		_ = b.Shutdown(ctx) // the demo's results are in, and the broker goes with the process
	}
	return b.Dial, stop, nil
}
