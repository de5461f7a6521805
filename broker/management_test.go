package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/warrenmq/warren/broker"
)

// overview asks for the overview and returns the status.
func overview(t *testing.T, url, user, password string) (status int, listeners []map[string]any) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url+"/api/overview", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(user, password)
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct{ Listeners []map[string]any }
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, answer.Listeners
}

func TestServeManagement(t *testing.T) {
	b, err := broker.Open(broker.Config{Users: []broker.User{
		{Name: "anna", Password: "secret"}, {Name: "app", Password: "secret", Tags: []string{}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 2)
	listen := func(serve func(net.Listener) error) net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { served <- serve(l) }()
		return l
	}
	listen(b.Serve)
	l := listen(b.ServeManagement)
	url := "http://" + l.Addr().String()
	status, listeners := overview(t, url, "anna", "secret")
	if status != 200 || len(listeners) == 0 {
		t.Errorf("%d, listeners %v", status, listeners)
	}
	if status, _ := overview(t, url, "app", "secret"); status != 401 {
		t.Errorf("without tags: %d", status)
	}
	// A connection that says nothing does not keep the broker from ending.
	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := <-served; !errors.Is(err, broker.ErrClosed) {
			t.Errorf("a listener ended with %v", err)
		}
	}
	late, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.ServeManagement(late); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("after Shutdown: %v", err)
	}
	if _, err := late.Accept(); err == nil {
		t.Error("a listener was left open")
	}
}

// TestHeadersAreBounded over a real socket.
func TestHeadersAreBounded(t *testing.T) {
	b, err := broker.Open(broker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Shutdown(context.Background())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go b.ServeManagement(l)
	req, err := http.NewRequest(http.MethodGet, "http://"+l.Addr().String()+"/api/overview", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Large", strings.Repeat("x", 64<<10))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", res.StatusCode)
	}
}

func TestManagementHandler(t *testing.T) {
	b, err := broker.Open(broker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Shutdown(context.Background())
	s := httptest.NewServer(b.ManagementHandler())
	defer s.Close()
	if status, _ := overview(t, s.URL, "guest", "guest"); status != 200 {
		t.Errorf("status %d", status)
	}
}

func TestUnknownTag(t *testing.T) {
	_, err := broker.Open(broker.Config{Users: []broker.User{{Name: "a", Password: "b", Tags: []string{"king"}}}})
	if err == nil || !strings.Contains(err.Error(), "there is no tag 'king'") {
		t.Errorf("%v", err)
	}
}
