package cli

import (
	"context"
	"net"
	"sync"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/internal/demo"
)

// demoBroker is the broker inside this process for the demo, which may kill it.
type demoBroker struct {
	dir string
	mu  sync.Mutex
	b   *broker.Broker // nil if it was killed and could not be started again
}

// embeddedBroker starts a broker inside this process, for the demo.
func embeddedBroker(_ context.Context, dir string) (demo.EmbeddedBroker, error) {
	d := &demoBroker{dir: dir}
	if err := d.start(); err != nil {
		return demo.EmbeddedBroker{}, err
	}
	e := demo.EmbeddedBroker{Dial: d.dial, Stop: d.stop}
	if dir != "" {
		e.Kill, e.Hold = d.kill, d.hold
	}
	return e, nil
}

func (d *demoBroker) start() (err error) {
	if d.b, err = broker.Open(broker.Config{Version: Version(), Dir: d.dir}); err != nil {
		return openError(d.dir, err)
	}
	return nil
}

func (d *demoBroker) dial(network, addr string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.b == nil {
		return nil, broker.ErrClosed
	}
	return d.b.Dial(network, addr)
}

// hold keeps confirms back until the kill.
func (d *demoBroker) hold() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.b.Faults().HoldConfirms()
}

// kill ends the broker as a kill of its process would, and starts it again.
func (d *demoBroker) kill(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.b.Faults().Crash()
	return d.start()
}

func (d *demoBroker) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.b == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	_ = d.b.Shutdown(ctx) // the demo's results are in, and the broker goes with the process
}
