package broker_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/broker"
)

func TestEmbeddedOpensAtTheFirstConnection(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e := broker.Embedded(dir)
	if _, err := os.Stat(dir); err == nil {
		t.Fatal("the data directory is there before anybody has connected")
	}
	for range 2 { // the second connection meets the same broker
		conn, err := amqp.DialConfig("amqp://guest:guest@embedded/", amqp.Config{Dial: e.Dial})
		if err != nil {
			t.Fatal(err)
		}
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ch.QueueDeclare("q", true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	if _, err := os.Stat(dir); err != nil {
		t.Fatal(err)
	}
	if err := e.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Dial("tcp", ""); !errors.Is(err, broker.ErrClosed) {
		t.Fatalf("after Shutdown: %v", err)
	}
}

func TestEmbeddedThatIsNotNeeded(t *testing.T) {
	e := broker.Embedded(filepath.Join(t.TempDir(), "data"))
	if err := e.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestEmbeddedThatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	other, err := broker.Open(broker.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	e := broker.Embedded(dir)
	if _, err := e.Dial("tcp", ""); err == nil {
		t.Fatal("two brokers have opened one directory")
	}
	if err := other.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Dial("tcp", ""); err != nil { // the directory is free now
		t.Fatal(err)
	}
	e.Shutdown(context.Background())
}
