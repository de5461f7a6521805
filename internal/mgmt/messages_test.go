package mgmt

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/wire"
)

func getBody(count int, ackmode string) string {
	return fmt.Sprintf(`{"count":%d,"ackmode":"%s","encoding":"auto"}`, count, ackmode)
}

// payloads are the payloads of an answer to get.
func (r *rig) payloads(queue, body string) string {
	r.t.Helper()
	code, text := r.ask("guest", http.MethodPost, "/api/queues/%2F/"+queue+"/get", body)
	var messages []struct {
		Payload     string `json:"payload"`
		Redelivered bool   `json:"redelivered"`
	}
	if err := json.Unmarshal([]byte(text), &messages); err != nil || code != 200 {
		r.t.Fatalf("%d %s", code, text)
	}
	var all []string
	for _, m := range messages {
		if m.Redelivered {
			m.Payload += "!"
		}
		all = append(all, m.Payload)
	}
	return strings.Join(all, " ")
}

func TestGetDisposes(t *testing.T) {
	r := newRig(t)
	r.declare("dead")
	args := wire.Table{{Key: "x-dead-letter-exchange", Value: ""}, {Key: "x-dead-letter-routing-key", Value: "dead"}}
	if _, err := r.ch.DeclareQueue(&wire.QueueDeclare{Queue: "q", Arguments: args}); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"a", "b", "c", "d"} {
		r.publish("q", text)
	}
	for _, step := range []struct{ queue, ackmode, want string }{
		{"q", "ack_requeue_true", "a b"},
		{"q", "reject_requeue_true", "a! b!"},
		{"q", "ack_requeue_false", "a! b!"},
		{"dead", "ack_requeue_true", ""},
		{"q", "reject_requeue_false", "c d"},
		{"q", "ack_requeue_true", ""},
		{"dead", "ack_requeue_true", "c d"},
	} {
		if got := r.payloads(step.queue, getBody(2, step.ackmode)); got != step.want {
			t.Errorf("%s of %s: %q, want %q", step.ackmode, step.queue, got, step.want)
		}
	}
	r.want(http.MethodGet, "/api/queues/%2F?columns=name,messages,messages_unacknowledged", "", 200,
		`[{"name":"dead","messages":2,"messages_unacknowledged":0},{"name":"q","messages":0,"messages_unacknowledged":0}]`)
	r.want(http.MethodDelete, "/api/queues/%2F/dead/contents", "", 204, "")
	r.want(http.MethodGet, "/api/queues/%2F/dead?columns=messages", "", 200, `{"messages":0}`)
	// Nothing of it looks like a client.
	r.want(http.MethodGet, "/api/overview?columns=object_totals.connections,churn_rates.connection_created", "", 200,
		`{"churn_rates":{"connection_created":1},"object_totals":{"connections":1}}`)
}

func TestBodiesAreBounded(t *testing.T) {
	r := newRig(t)
	r.declare("q")
	large := `{"properties":{},"routing_key":"q","payload_encoding":"string","payload":"` + strings.Repeat("x", 1<<20+1) + `"}`
	r.want(http.MethodPost, "/api/exchanges/%2F/amq.default/publish", large, 400,
		`{"error":"bad_request","reason":"406 PRECONDITION_FAILED - message size 1048577 is larger than configured max size 1048576"}`)
	r.want(http.MethodPost, "/api/exchanges/%2F/amq.default/publish", strings.Repeat(" ", maxBodyBytes+1), 413,
		`{"error":"bad_request","reason":"the body is larger than 20971520 bytes"}`)
	deep := `{"properties":{"headers":{"a":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}},"routing_key":"q","payload":"","payload_encoding":"string"}`
	r.want(http.MethodPost, "/api/exchanges/%2F/amq.default/publish", deep, 400, `{"error":"bad_request","reason":"values are nested deeper than 64"}`)
	for _, properties := range []string{`"x"`, `{"priority":256}`, `{"priority":-1}`, `{"headers":1}`, `{"type":1}`, `{"timestamp":"x"}`,
		`{"headers":{"n":1e999}}`, `{"expiration":"x"}`, `{"user_id":"somebody"}`} {
		code, text := r.ask("guest", http.MethodPost, "/api/exchanges/%2F/amq.default/publish",
			`{"properties":`+properties+`,"routing_key":"q","payload":"","payload_encoding":"string"}`)
		if code != 400 {
			t.Errorf("%s: %d %s", properties, code, text)
		}
	}
	for _, body := range []string{`[]`, `null`, `1`, ``, `{"count":`} {
		r.want(http.MethodPost, "/api/queues/%2F/q/get", body, 400, `{"error":"bad_request","reason":"not_json"}`)
	}
	r.want(http.MethodGet, "/api/queues/%2F/q?columns=messages", "", 200, `{"messages":0}`)
	r.want(http.MethodGet, "/api/queues/%2F/"+strings.Repeat("x", maxPathBytes), "", 404, objectNotFound)
}

// TestPublishWaitsForItsConfirm and gives up with the client.
func TestPublishWaitsForItsConfirm(t *testing.T) {
	r := newRig(t)
	r.declare("q")
	r.e.HoldConfirms()
	ctx, cancel := context.WithCancel(context.Background())
	req := httptest.NewRequest(http.MethodPost, "/api/exchanges/%2F/amq.default/publish",
		strings.NewReader(`{"properties":{},"routing_key":"q","payload":"x","payload_encoding":"string"}`)).WithContext(ctx)
	req.RemoteAddr = "127.0.0.1:1"
	req.SetBasicAuth("guest", "guest")
	w := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.api.ServeHTTP(w, req)
	}()
	for deadline := time.Now().Add(10 * time.Second); r.e.Queue("/", "q").Status().Ready == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the message did not arrive")
		}
		<-time.After(time.Millisecond)
	}
	cancel()
	<-done
	if w.Code != 400 || !strings.Contains(w.Body.String(), "not confirmed in time") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	r.e.ReleaseConfirms()
	r.publish("q", "y")
}

// TestProperties are what was published, in every type that JSON has.
func TestProperties(t *testing.T) {
	r := newRig(t)
	r.declare("q")
	const properties = `{"content_type":"text/plain","content_encoding":"utf-8","headers":{"b":true,"f":1.5,"l":["x",{"y":null}],"n":-3,"s":"ü"},` +
		`"delivery_mode":2,"priority":9,"correlation_id":"c","reply_to":"r","expiration":"60000","message_id":"m","timestamp":1700000000,` +
		`"type":"t","user_id":"guest","app_id":"a","cluster_id":"k"}`
	r.want(http.MethodPost, "/api/exchanges/%2F/amq.default/publish",
		`{"properties":`+properties+`,"routing_key":"q","payload":"aGk=","payload_encoding":"base64"}`, 200, `{"routed":true}`)
	r.want(http.MethodPost, "/api/queues/%2F/q/get", getBody(1, "ack_requeue_false"), 200,
		`[{"payload_bytes":2,"redelivered":false,"exchange":"","routing_key":"q","message_count":0,"properties":`+properties+
			`,"payload":"hi","payload_encoding":"string"}]`)
}
