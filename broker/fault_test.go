package broker_test

import (
	"errors"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/internal/vfs"
)

// TestDiskFails lets every sync of the log fail: the publisher gets no confirm,
// but loses its connection; the broker says why, and takes nobody on; what had
// been confirmed is there at the next start.
func TestDiskFails(t *testing.T) {
	disk := vfs.NewMem()
	fault := vfs.NewFault(disk)
	b, err := broker.Open(broker.OnFileSystem(broker.Config{Dir: "/data"}, fault, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := amqp.DialConfig("amqp://guest:guest@embedded/", amqp.Config{Dial: b.Dial})
	must(t, err)
	gone := conn.NotifyClose(make(chan *amqp.Error, 1))
	ch, err := conn.Channel()
	must(t, err)
	_, err = ch.QueueDeclare("q", true, false, false, false, nil)
	must(t, err)
	must(t, ch.Confirm(false))
	publish := func(body string) *amqp.DeferredConfirmation {
		c, err := ch.PublishWithDeferredConfirm("", "q", false, false, amqp.Publishing{DeliveryMode: 2, Body: []byte(body)})
		must(t, err)
		return c
	}
	if !publish("good").Wait() {
		t.Fatal("nacked")
	}
	fault.Add(vfs.Rule{Kinds: vfs.OpDatasync | vfs.OpSync, Sticky: true, Nth: 1, Err: syscall.EIO})
	lost := publish("lost")
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the publisher keeps its connection")
	}
	if lost.Acked() {
		t.Error("what is not on the disk was confirmed")
	}
	if !errors.Is(b.Err(), syscall.EIO) {
		t.Errorf("the broker says %v", b.Err())
	}
	if c, err := amqp.DialConfig("amqp://guest:guest@embedded/", amqp.Config{Dial: b.Dial}); err == nil {
		c.Close()
		t.Error("a broker whose disk has failed takes connections")
	}
	b.Faults().Crash()

	b, err = broker.Open(broker.OnFileSystem(broker.Config{Dir: "/data"}, disk.CrashClone(vfs.KeepNone, nil), 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	d, ok, err := channel(t, b).Get("q", true)
	if err != nil || !ok || string(d.Body) != "good" {
		t.Errorf("got %q, %t, %v", d.Body, ok, err)
	}
	b.Faults().Crash()
}
