package mgmt

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/warrenmq/warren/broker"
)

// TestRecorded builds the scene on the embedded broker and compares all answers
// with those of RabbitMQ 4.3.
func TestRecorded(t *testing.T) {
	var theirs []Answer
	read(t, "testdata/recorded/4.3.json", func(b []byte) error { return json.Unmarshal(b, &theirs) })
	var deviations []*Deviation
	read(t, "deviations.txt", func(b []byte) (err error) {
		deviations, err = ParseDeviations(string(b))
		return err
	})
	var requests string
	read(t, "requests.txt", func(b []byte) error { requests = string(b); return nil })

	url, api := start(t)
	scene, err := Build(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer scene.Close()
	ours, err := Ask(api, requests)
	if err != nil {
		t.Fatal(err)
	}
	if len(ours) != len(theirs) {
		t.Fatalf("%d answers, the recording has %d: record it anew", len(ours), len(theirs))
	}
	for i := range ours {
		if ours[i].Request != theirs[i].Request {
			t.Fatalf("request %d is %q, the recording has %q: record it anew", i, ours[i].Request, theirs[i].Request)
		}
		for _, d := range Compare(ours[i], theirs[i]) {
			if !covered(deviations, d) {
				t.Error(d)
			}
		}
	}
	for _, d := range deviations {
		if !d.Used {
			t.Errorf("deviations.txt: nothing deviates like that: %s", d.Line)
		}
	}
}

func covered(deviations []*Deviation, x Difference) bool {
	for _, d := range deviations {
		if d.Matches(x) {
			return true
		}
	}
	return false
}

func read(t *testing.T, name string, parse func([]byte) error) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err == nil {
		err = parse(b)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// start runs a broker on TCP, as RabbitMQ would be reached, with its API.
func start(t *testing.T) (url, api string) {
	t.Helper()
	b, err := broker.Open(broker.Config{VHosts: []string{"/", VHost}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- b.Serve(l) }()
	h := httptest.NewServer(b.ManagementHandler())
	t.Cleanup(func() {
		h.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := b.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, broker.ErrClosed) {
			t.Error(err)
		}
	})
	return "amqp://guest:guest@" + l.Addr().String() + "/", h.URL
}
