package main

import (
	"os"
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
