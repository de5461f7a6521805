package engine

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/vfs"
	"github.com/warrenmq/warren/internal/wire"
)

// clockAt is a hand clock that begins at that time.
func clockAt(at time.Time) *handClock {
	c := newHandClock()
	c.at = at
	return c
}

// TestClockBehindTheLog crashes an engine whose clock was a day ahead. What it had
// counted goes on from there: nobody waits a day longer, and nothing expires early.
func TestClockBehindTheLog(t *testing.T) {
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, x := range []struct {
		name  string
		ahead time.Duration
		warns bool
	}{{"a day", 24 * time.Hour, true}, {"since 1970", noon.Sub(time.Unix(0, 0)), true}, {"half a minute", 30 * time.Second, false}} {
		t.Run(x.name, func(t *testing.T) {
			fsys := vfs.NewMem()
			clock := clockAt(noon)
			e, err := New(durableConfig(fsys, clock))
			if err != nil {
				t.Fatal(err)
			}
			conn, ch := open(t, e)
			declare(t, ch, &wire.QueueDeclare{Queue: "queue", Durable: true, Arguments: arguments("x-message-ttl", 100_000)})
			declare(t, ch, &wire.QueueDeclare{Queue: "message", Durable: true})
			// One is in a checkpoint, the other in the log behind it.
			must(t, send(ch, publishing{key: "queue", id: 1, persistent: true}))
			conn.Flush()
			must(t, e.settled())
			if err := e.checkpoint(func() bool { return false }); err != nil {
				t.Fatal(err)
			}
			clock.advance(10 * time.Second)
			must(t, send(ch, publishing{key: "message", id: 2, persistent: true, expiration: "100000"}))
			conn.Flush()
			must(t, e.settled())
			e.Abandon()

			for range 2 { // a start without a write in between changes nothing
				clock = clockAt(noon.Add(10*time.Second - x.ahead))
				config := durableConfig(fsys, clock)
				said := &strings.Builder{}
				config.Logger = slog.New(slog.NewTextHandler(said, nil))
				if e, err = New(config); err != nil {
					t.Fatal(err)
				}
				if warns := strings.Contains(said.String(), "the clock is behind the last write"); warns != x.warns {
					t.Fatalf("warns: %t: %s", warns, said)
				}
				e.Abandon()
			}
			e, err = New(durableConfig(fsys, clock))
			if err != nil {
				t.Fatal(err)
			}
			defer e.Abandon()
			late := time.Duration(0)
			if !x.warns {
				late = x.ahead
			}
			left := func() (n [2]int) {
				for i, name := range []string{"queue", "message"} {
					q := queueNamed(e, name)
					q.mu.Lock()
					n[i] = q.m.ReadyCount()
					q.mu.Unlock()
				}
				return n
			}
			for _, step := range []struct {
				pass time.Duration
				left [2]int
			}{{89*time.Second + late, [2]int{1, 1}}, {2 * time.Second, [2]int{0, 1}}, {8 * time.Second, [2]int{0, 1}}, {2 * time.Second, [2]int{0, 0}}} {
				clock.advance(step.pass)
				if got := left(); got != step.left {
					t.Errorf("%s later there are %v, want %v", step.pass, got, step.left)
				}
			}
		})
	}
}

// TestShortLives lets an engine crash before its janitor does anything, again and
// again: what a start reads stays bounded, and so do the files.
func TestShortLives(t *testing.T) {
	fsys := vfs.NewMem()
	most, checkpoints := 0, 0
	for life := range 3 * longReplayFiles {
		e := openDurable(t, fsys)
		conn, ch := open(t, e)
		if life == 0 {
			declare(t, ch, &wire.QueueDeclare{Queue: "q", Durable: true})
		}
		must(t, send(ch, publishing{key: "q", id: uint64(life) + 1, persistent: true}))
		conn.Flush()
		must(t, e.settled())
		if _, err := ch.Get("q", true); err != nil {
			t.Fatal(err)
		}
		conn.Flush()
		must(t, e.settled())
		names, err := fsys.List("/data")
		if err != nil {
			t.Fatal(err)
		}
		logs := 0
		for _, name := range names {
			if strings.HasPrefix(name, "log-") {
				logs++
			}
			if strings.HasPrefix(name, "ckpt-") {
				checkpoints++
			}
		}
		most = max(most, logs)
		e.Abandon()
	}
	t.Logf("at most %d log files", most)
	if most > longReplayFiles+4 || checkpoints == 0 {
		t.Errorf("%d log files, checkpoints in %d lives", most, checkpoints)
	}
}

// TestReplayCountsAsLogged: what a start has read brings the next checkpoint nearer.
func TestReplayCountsAsLogged(t *testing.T) {
	fsys := vfs.NewMem()
	config := durableConfig(fsys, newHandClock())
	config.Disk.FileBytes = 64 << 20
	due := 0
	for life := 1; life <= 12 && due == 0; life++ {
		e, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		if e.janitor.checkpointDue() {
			due = life
		}
		conn, ch := open(t, e)
		if life == 1 {
			declare(t, ch, &wire.QueueDeclare{Queue: "q", Durable: true, Arguments: arguments("x-max-length", 1)})
		}
		for id := range uint64(40) {
			must(t, send(ch, publishing{key: "q", id: id + 1, persistent: true, bodyBytes: 250_000}))
			conn.Flush()
		}
		must(t, e.settled())
		e.Abandon()
	}
	if due < 6 || due > 9 { // 10 MB each, 64 MiB
		t.Errorf("a checkpoint is due in life %d", due)
	}
	for _, x := range []struct {
		report  seglog.Report
		tooLong bool
	}{
		{seglog.Report{ReadBytes: 2000, ReadFiles: longReplayFiles}, false},
		{seglog.Report{ReadBytes: 2001}, true},
		{seglog.Report{ReadFiles: longReplayFiles + 1}, true},
	} {
		if got := replayTooLong(&x.report, 1000); got != x.tooLong {
			t.Errorf("%+v: %t", x.report, got)
		}
	}
}

// TestDeletedQueueStaysDeleted reads of a queue that expires when it is not used, and
// of its end: another one of that name is not its business.
func TestDeletedQueueStaysDeleted(t *testing.T) {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	_, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "q", Durable: true, Arguments: arguments("x-expires", 500)})
	must(t, ch.DeleteQueue(&wire.QueueDelete{Queue: "q"}, func(uint32) {}))
	e.Abandon()
	clock := newHandClock()
	e, err := New(durableConfig(fsys, clock))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Abandon()
	_, ch = open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "q", Durable: true})
	clock.advance(time.Second)
	if queueNamed(e, "q") == nil {
		t.Error("the new queue is gone with the time of the old one")
	}
}
