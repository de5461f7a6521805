package bench

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/internal/loadgen"
)

// listen starts a broker on a loopback port for the length of a test, in memory if dir
// is "".
func listen(t testing.TB, dir string) (addr string) {
	t.Helper()
	addr, _ = start(t, broker.Config{Dir: dir}, func(l net.Listener) net.Listener { return l })
	return addr
}

// start starts a broker on a loopback port, on what on makes of the listener. stop cuts
// clients off and ends it; the end of the test does so too.
func start(t testing.TB, config broker.Config, on func(net.Listener) net.Listener) (addr string, stop func()) {
	t.Helper()
	b, err := broker.Open(config)
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- b.Serve(on(l)) }()
	stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		b.Shutdown(ctx)
		if err := <-done; !errors.Is(err, broker.ErrClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

// target is how a load reaches a broker of this process.
func target(addr string) *loadgen.Broker {
	return &loadgen.Broker{Dial: loadgen.DialTCP(addr), Login: loadgen.Login{User: "guest", Password: "guest", VHost: "/"}}
}

// measured is a benchmark's load on a broker.
func measured(b *testing.B, at *loadgen.Broker, cfg *loadgen.Config) *loadgen.Report {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	b.ReportAllocs()
	b.ResetTimer()
	rep, err := loadgen.Run(ctx, at, cfg)
	b.StopTimer()
	must(b, err)
	return rep
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
