package mgmt

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/warrenmq/warren/internal/auth"
	"github.com/warrenmq/warren/internal/core/status"
	"github.com/warrenmq/warren/internal/engine"
	"github.com/warrenmq/warren/internal/wire"
)

// BenchmarkQueues asks about 100,000 queues.
func BenchmarkQueues(b *testing.B) {
	e, err := engine.New(engine.Config{VHosts: []string{"/"}})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	c, werr := e.Open("/", engine.ConnInfo{User: "guest"})
	if werr != nil {
		b.Fatal(werr)
	}
	defer c.Close()
	ch := c.OpenChannel(1)
	for i := range 100_000 {
		if _, err := ch.DeclareQueue(&wire.QueueDeclare{Queue: fmt.Sprintf("queue-%06d", i)}); err != nil {
			b.Fatal(err)
		}
	}
	api := New(Config{Topology: e, Lookup: e, Clients: e, Sums: e, Messages: e, Users: auth.Guest(),
		Listeners: func() []status.Listener { return nil }, Now: engine.SystemClock{}.Now})
	for _, path := range []string{
		"/api/overview", "/api/queues?page=1", "/api/queues?page=1&sort=messages", "/api/queues?page=1&name=99&use_regex=true",
		"/api/queues?columns=name,messages", "/api/queues", "/api/queues/%2F/queue-050000", "/api/definitions", "/metrics",
	} {
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				req := httptest.NewRequest(http.MethodGet, path, nil)
				req.RemoteAddr = "127.0.0.1:1"
				req.SetBasicAuth("guest", "guest")
				api.ServeHTTP(nowhere{http.Header{}}, req)
			}
		})
	}
}

// nowhere is an answer that nobody keeps.
type nowhere struct{ h http.Header }

func (n nowhere) Header() http.Header         { return n.h }
func (n nowhere) WriteHeader(int)             {}
func (n nowhere) Write(p []byte) (int, error) { return io.Discard.Write(p) }
