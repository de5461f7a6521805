package amqpserver

import (
	"slices"
	"testing"

	"github.com/warrenmq/warren/internal/engine"
)

func windowTest(bytes int) (w *window, grown *[]int) {
	grown = new([]int)
	return &window{bytes: bytes, clamp: func(int) {}, set: func(bytes int) { *grown = append(*grown, bytes) }}, grown
}

// TestWindowSaw: the receive window grows for clients that write much at a time.
func TestWindowSaw(t *testing.T) {
	for _, c := range []struct {
		name  string
		begin int
		sizes []int // of reads, again and again
		rests bool
		grown []int
	}{
		{"much at a time", narrowBytes, []int{60_000}, false, []int{wideBytes}},
		{"much at a time from the beginning", tinyBytes, []int{16_400}, false, []int{narrowBytes, wideBytes}},
		{"nearly always", narrowBytes, []int{20_000, 60_000, 60_000, 60_000, 60_000, 60_000, 60_000, 60_000, 60_000, 60_000, 90}, false, []int{wideBytes}},
		{"every other time", narrowBytes, []int{60_000, 90}, false, nil},
		{"every other time from the beginning", tinyBytes, []int{16_000, 90}, false, nil},
		{"little", narrowBytes, []int{9_000}, false, nil},
		{"what gathered in rests", narrowBytes, []int{60_000}, true, nil},
		{"wide already", wideBytes, []int{60_000}, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, grown := windowTest(c.begin)
			for i := range 20_000 {
				w.saw(c.sizes[i%len(c.sizes)], c.rests)
			}
			if !slices.Equal(*grown, c.grown) {
				t.Errorf("it grew to %v, want %v", *grown, c.grown)
			}
		})
	}
}

// TestWindowSuits: whom a tiny window suits.
func TestWindowSuits(t *testing.T) {
	for _, c := range []struct {
		name        string
		bytes       int
		published   int
		unconfirmed uint64
		tiny        bool
	}{
		{"small messages", 16_000, 200, 1000, true},
		{"small messages, and so many unconfirmed that a larger one is full, too", 16_000, 200, tightMost + 1, false},
		{"messages of 100 bytes", 16_000, 100, 1000, true},
		{"messages of 300 bytes", 16_000, 45, 400, false},
		{"large messages", 1090, 1, 1, false},
		{"nothing published", 1000, 0, 0, true},
		{"nothing read yet", 0, 1, 1000, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, grown := windowTest(tinyBytes)
			w.suit(c.bytes, engine.Read{Published: c.published}, c.unconfirmed)
			if w.tiny() != c.tiny || c.tiny != (len(*grown) == 0) {
				t.Errorf("it grew to %v", *grown)
			}
		})
	}
	var systems window
	systems.suit(60_000, engine.Read{Published: 1}, 5000)
	systems.saw(60_000, false)
	systems.grow(wideBytes)
	if systems.tiny() {
		t.Error("a window that is the system's care is tiny")
	}
}

// TestWindowHold: a tiny or narrow window is held below its buffer.
func TestWindowHold(t *testing.T) {
	for _, c := range []struct {
		bytes int
		held  []int
	}{{tinyBytes, []int{tinyClamp}}, {narrowBytes, []int{narrowClamp}}, {wideBytes, nil}} {
		w, _ := windowTest(c.bytes)
		var held []int
		w.clamp = func(bytes int) { held = append(held, bytes) }
		w.hold()
		if !slices.Equal(held, c.held) {
			t.Errorf("a window of %d is held at %v, want %v", c.bytes, held, c.held)
		}
	}
	var systems window
	systems.hold() // nothing to hold
}
