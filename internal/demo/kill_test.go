package demo

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warrenmq/warren/broker"
)

// durable is a broker on a directory that the lesson may kill.
type durable struct {
	t   *testing.T
	dir string
	mu  sync.Mutex
	b   *broker.Broker
}

// durableBroker starts one; restartIn is the directory it has after a kill, ""
// for the same.
func durableBroker(t *testing.T, restartIn string) Options {
	t.Helper()
	d := &durable{t: t, dir: t.TempDir()}
	d.open()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := d.b.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return Options{
		URL: defaultURL, limits: limits{patience: 2 * time.Second},
		Dial: func(network, addr string) (net.Conn, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.b.Dial(network, addr)
		},
		Hold: func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.b.Faults().HoldConfirms()
		},
		Kill: func(context.Context) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.b.Faults().Crash()
			if restartIn != "" {
				d.dir = restartIn
			}
			d.open()
			return nil
		},
	}
}

func (d *durable) open() {
	var err error
	if d.b, err = broker.Open(broker.Config{Dir: d.dir}); err != nil {
		d.t.Fatal(err)
	}
}

// TestKill tells the lesson on a broker that is killed.
func TestKill(t *testing.T) {
	o := durableBroker(t, "")
	var out bytes.Buffer
	o.Out = &out
	l, err := tell(t, t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	steps := l.report.Steps
	last := steps[len(steps)-1].Tally
	if len(steps) != 8 || last.Unconfirmed == 0 || last.CutOff != readerPrefetch || last.Redelivered != readerPrefetch ||
		last.Confirmed < letters+streamConfirms {
		t.Errorf("%d steps, the last one %+v", len(steps), last)
	}
	for _, want := range []string{"in eight steps", "8/8", "letters 0 were lost"} {
		if !strings.Contains(out.String(), want) && !strings.Contains(strings.Join(strings.Fields(out.String()), " "), want) {
			t.Errorf("the story does not contain %q:\n%s", want, out.String())
		}
	}
	wantGone(t, o, l.names)
}

// TestKillSabotage lets a confirmed message disappear.
func TestKillSabotage(t *testing.T) {
	s := sabotaged{name: "a confirmed message is lost", sabotage: sabotage{loseConfirmed: true}, step: 8,
		text: "confirmed letters 1 were lost", options: durableBroker(t, "")}
	s.run(t)
	s.check(t)
}

// TestKillForgetsEverything restarts the broker on an empty directory.
func TestKillForgetsEverything(t *testing.T) {
	o := durableBroker(t, t.TempDir())
	_, err := tell(t, t.Context(), o)
	if err == nil || !strings.HasPrefix(err.Error(), "step 8 (kill): ") {
		t.Errorf("error %v, want one of step 8", err)
	}
}
