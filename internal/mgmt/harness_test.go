package mgmt

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/auth"
	"github.com/warrenmq/warren/internal/core/status"
	"github.com/warrenmq/warren/internal/engine"
	"github.com/warrenmq/warren/internal/wire"
)

// rig is an API over an engine, without sockets.
type rig struct {
	t     *testing.T
	e     *engine.Engine
	api   *API
	users *auth.Users
	conn  *engine.Conn
	ch    *engine.Channel
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigWith(t, engine.Config{VHosts: []string{"/", "shop"}})
}

func newRigWith(t *testing.T, c engine.Config) *rig {
	t.Helper()
	e, err := engine.New(c)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, e: e, users: auth.Guest()}
	r.api = New(Config{
		Topology: e, Lookup: e, Clients: e, Sums: e, Messages: e, Changes: e, Users: r.users, Now: time.Now,
		Listeners: func() []status.Listener { return []status.Listener{{Protocol: "amqp", Host: "127.0.0.1", Port: 5672}} },
		Version:   "1", NodeName: "warren@test", MaxMessageBytes: 1 << 20,
	})
	r.conn, r.ch = r.open("/", "guest", 40000)
	t.Cleanup(func() {
		r.conn.Close()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// open makes a connection as a client would have it.
func (r *rig) open(vhost, user string, port int) (*engine.Conn, *engine.Channel) {
	r.t.Helper()
	c, err := r.e.Open(vhost, engine.ConnInfo{User: user, FrameMax: 131072,
		Peer: engine.Endpoint{Host: "127.0.0.1", Port: port}, Local: engine.Endpoint{Host: "127.0.0.1", Port: 5672}})
	if err != nil {
		r.t.Fatal(err)
	}
	return c, c.OpenChannel(1)
}

func (r *rig) declare(names ...string) {
	r.t.Helper()
	for _, name := range names {
		if _, err := r.ch.DeclareQueue(&wire.QueueDeclare{Queue: name}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// ask sends a request from a loopback address as user, who has his name as his
// password.
func (r *rig) ask(user, method, path, body string) (int, string) {
	r.t.Helper()
	return r.askFrom("127.0.0.1:1", user, user, method, path, body)
}

func (r *rig) askFrom(peer, user, password, method, path, body string) (int, string) {
	r.t.Helper()
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.RemoteAddr = peer
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	w := httptest.NewRecorder()
	r.api.ServeHTTP(w, req)
	if text := w.Body.String(); text != "" && w.Header().Get("Content-Type") == "application/json" && !json.Valid(w.Body.Bytes()) {
		r.t.Fatalf("%s %s: not JSON: %s", method, path, text)
	}
	return w.Code, w.Body.String()
}

// want asks as guest and compares.
func (r *rig) want(method, path, body string, status int, text string) {
	r.t.Helper()
	r.wantAs("guest", method, path, body, status, text)
}

func (r *rig) wantAs(user, method, path, body string, status int, text string) {
	r.t.Helper()
	if code, got := r.ask(user, method, path, body); code != status || got != text {
		r.t.Errorf("%s %s as %s: %d %s\nwant %d %s", method, path, user, code, got, status, text)
	}
}

// publish puts a message in over the API.
func (r *rig) publish(key, text string) {
	r.t.Helper()
	body, err := json.Marshal(map[string]any{"properties": map[string]any{}, "routing_key": key, "payload": text, "payload_encoding": "string"})
	if err != nil {
		r.t.Fatal(err)
	}
	r.want(http.MethodPost, "/api/exchanges/%2F/amq.default/publish", string(body), 200, `{"routed":true}`)
}

func consumeOf(queue string) engine.Consume { return engine.Consume{Queue: queue} }

func publicationTo(queue string) status.Publication {
	return status.Publication{Key: queue, Body: []byte("x")}
}
