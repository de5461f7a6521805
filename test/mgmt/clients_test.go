package mgmt

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// TestCloseConnection: the client reads why.
func TestCloseConnection(t *testing.T) {
	broker, api := start(t)
	conn, err := amqp.Dial(broker)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	closed := conn.NotifyClose(make(chan *amqp.Error, 1))
	name := conn.LocalAddr().String() + " -> " + conn.RemoteAddr().String()
	req, err := http.NewRequest(http.MethodDelete, api+"/api/connections/"+url.PathEscape(name), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("guest", "guest")
	req.Header.Set("X-Reason", "maintenance")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNoContent {
		t.Errorf("status %d", res.StatusCode)
	}
	select {
	case e := <-closed:
		if e == nil || e.Code != 320 || e.Reason != "CONNECTION_FORCED - maintenance" {
			t.Errorf("the client was told %v", e)
		}
	case <-time.After(10 * time.Second):
		t.Error("the client was not told")
	}
}

// TestRabbitmqadmin runs the program that RabbitMQ 3 comes with, if it is here.
func TestRabbitmqadmin(t *testing.T) {
	if _, err := exec.LookPath("rabbitmqadmin"); err != nil {
		t.Skip("rabbitmqadmin is not installed (Debian has it in rabbitmq-server)")
	}
	_, api := start(t)
	u, err := url.Parse(api)
	if err != nil {
		t.Fatal(err)
	}
	export := filepath.Join(t.TempDir(), "definitions.json")
	for _, c := range []struct{ command, want string }{
		{"declare queue name=orders durable=true arguments={\"x-max-length\":9}", "queue declared"},
		{"declare exchange name=shop type=topic", "exchange declared"},
		{"declare binding source=shop destination=orders routing_key=order.#", "binding declared"},
		{"publish exchange=shop routing_key=order.new payload=hi", "Message published"},
		{"publish exchange=shop routing_key=other payload=hi", "Message published but NOT routed"},
		{"list queues name messages durable arguments.x-max-length", "orders\t1\tTrue\t9"},
		{"list bindings source destination routing_key", "shop\torders\torder.#"},
		{"list exchanges name type", "shop\ttopic"},
		{"list vhosts name messages", "/\t1"},
		{"list users name tags", "guest\tadministrator"},
		{"list permissions user configure", "guest\t.*"},
		{"list nodes type", "disc"},
		{"list policies", ""},
		{"show overview", "4.3.0"},
		{"get queue=orders ackmode=ack_requeue_false", "order.new"},
		{"list queues name messages", "orders\t0"},
		{"purge queue name=orders", "queue purged"},
		{"export " + export, "Exported definitions"},
		{"delete queue name=orders", "queue deleted"},
		{"delete exchange name=shop", "exchange deleted"},
		{"list queues name", ""},
	} {
		args := append([]string{"-H", u.Hostname(), "-P", u.Port(), "-f", "tsv"}, strings.Fields(c.command)...)
		out, err := exec.Command("rabbitmqadmin", args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) || c.want == "" && strings.Contains(string(out), "orders") {
			t.Errorf("rabbitmqadmin %s: %v\n%s\nwant %q", c.command, err, out, c.want)
		}
	}
	if text, err := os.ReadFile(export); err != nil || !strings.Contains(string(text), `"x-max-length":9`) {
		t.Errorf("%v %s", err, text)
	}
}
