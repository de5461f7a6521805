package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test's binary be the broker's process, as the command is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "-serve" {
		exit(serveBroker(os.Args[2]))
	}
	os.Exit(m.Run())
}

// TestFigures runs everything that takes no fixed time, at a size that measures
// nothing.
func TestFigures(t *testing.T) {
	r := &run{dir: t.TempDir(), duration: time.Millisecond, rounds: 1, messages: 100, waiting: 50}
	if err := r.all("publish,consume,async,waiting"); err != nil {
		t.Fatal(err)
	}
}

// TestBadFlags: what cannot be measured is refused before anything is.
func TestBadFlags(t *testing.T) {
	good := run{duration: time.Second, rounds: 1, messages: 1, retries: time.Second, waiting: 1}
	for name, spoil := range map[string]func(*run){
		"-seconds": func(r *run) { r.duration = 0 }, "-rounds": func(r *run) { r.rounds = 0 }, "-messages": func(r *run) { r.messages = 0 },
		"-retries": func(r *run) { r.retries = 0 }, "-waiting": func(r *run) { r.waiting = -1 },
	} {
		r := good
		spoil(&r)
		if err := r.check(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := good.check(); err != nil {
		t.Error(err)
	}
}
