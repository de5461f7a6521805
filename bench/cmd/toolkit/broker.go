package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/reliable"
)

// shutdownTime bounds the end of a broker.
const shutdownTime = 5 * time.Second

// peer is the broker that a figure is measured on.
type peer struct {
	url  string
	dial func(network, addr string) (net.Conn, error)
	ctx  func(ctx context.Context, network, addr string) (net.Conn, error)
	stop func() error
}

// DialContext makes it a reliable.Dialer.
func (p *peer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return p.ctx(ctx, network, addr)
}

// publisher is a client of the toolkit, which the caller closes, with a publisher to a
// queue.
func (p *peer) publisher(ctx context.Context, config reliable.Config, queue reliable.Queue, options ...reliable.PublisherOption) (*reliable.Client, *reliable.Publisher[[]byte], error) {
	client, err := reliable.Open(ctx, p.transport(), config)
	if err != nil {
		return nil, nil, err
	}
	to, err := reliable.NewPublisher[[]byte](ctx, client, reliable.ToQueue(queue), options...)
	if err != nil {
		return nil, nil, errors.Join(err, client.Close(ctx))
	}
	return client, to, nil
}

// inside is a broker in this process. An empty name means in memory.
func (r *run) inside(name string) (*peer, error) {
	b, err := broker.Open(broker.Config{Dir: r.data(name), MemoryLimitBytes: -1})
	if err != nil {
		return nil, err
	}
	return &peer{url: "amqp://guest:guest@embedded/", dial: b.Dial, ctx: b.DialContext, stop: func() error {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
		defer cancel()
		return errors.Join(b.Shutdown(ctx), r.forget(name))
	}}, nil
}

// outside is a broker in a process of its own, over TCP.
func (r *run) outside(name string) (*peer, error) {
	data := "-"
	if name != "" {
		data = r.data(name)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-serve", data)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop := func() error {
		in.Close()
		return errors.Join(cmd.Wait(), r.forget(name))
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the broker says %q: %w", addr, err), stop())
	}
	d := new(net.Dialer)
	return &peer{url: fmt.Sprintf("amqp://guest:guest@%s/", strings.TrimSpace(addr)), dial: d.Dial, ctx: d.DialContext, stop: stop}, nil
}

func (r *run) data(name string) string {
	if name == "" {
		return ""
	}
	return filepath.Join(r.dir, name)
}

func (r *run) forget(name string) error {
	if name == "" {
		return nil
	}
	return os.RemoveAll(r.data(name))
}

// serveBroker is the other process: it prints the address and serves until
// standard input ends.
func serveBroker(data string) error {
	if data == "-" {
		data = ""
	}
	b, err := broker.Open(broker.Config{Dir: data, MemoryLimitBytes: -1})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- b.Serve(l) }()
	fmt.Println(l.Addr())
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	err = b.Shutdown(ctx)
	if end := <-served; !errors.Is(end, broker.ErrClosed) {
		err = errors.Join(err, end)
	}
	return err
}
