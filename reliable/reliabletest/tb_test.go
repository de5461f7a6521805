package reliabletest_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// exampleTB is a test that prints what it says and can be looked at afterwards.
type exampleTB struct {
	testing.TB // what a test does not need here

	mu       sync.Mutex
	cleanups []func()
	said     string
	quiet    bool
	failed   bool
}

func (t *exampleTB) Helper() {}

func (t *exampleTB) Cleanup(f func()) { t.cleanups = append(t.cleanups, f) }

func (t *exampleTB) end() {
	for i := len(t.cleanups) - 1; i >= 0; i-- {
		t.cleanups[i]()
	}
	t.cleanups = nil
}

func (t *exampleTB) say(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = true
	t.said += text + "\n"
	if !t.quiet {
		fmt.Println(text)
	}
}

func (t *exampleTB) Errorf(format string, args ...any) { t.say(fmt.Sprintf(format, args...)) }
func (t *exampleTB) Error(args ...any)                 { t.say(fmt.Sprint(args...)) }

func (t *exampleTB) Fatalf(format string, args ...any) {
	t.say(fmt.Sprintf(format, args...))
	runtime.Goexit()
}

func (t *exampleTB) Fatal(args ...any) {
	t.say(fmt.Sprint(args...))
	runtime.Goexit()
}

// complaint is what a test says that f fails.
func complaint(f func(t *exampleTB)) string {
	t := &exampleTB{quiet: true}
	done := make(chan struct{})
	go func() { // of its own, because Fatal ends it
		defer close(done)
		defer t.end()
		f(t)
	}()
	<-done
	return t.said
}
