package parity

import (
	"testing"

	"github.com/warrenmq/warren/brokertest"
)

// This project's broker does what RabbitMQ does, but for the deviations.
func TestReplay(t *testing.T) {
	b := brokertest.New(t)
	scripts := readScripts(t)
	for name := range reasons(t, "later.txt") {
		delete(scripts, name)
	}
	deviates := reasons(t, "deviations.txt")
	want := func(name string) string {
		if deviates[name] != "" {
			return recorded(t, "deviations", name)
		}
		return recorded(t, "recorded/"+reference, name)
	}
	compare(t, play(t, scripts, b.URL(), want), want)
}
