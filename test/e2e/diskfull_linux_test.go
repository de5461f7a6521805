package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	smallDiskBytes = 320 << 20
	moreBytes      = 1 << 30
)

// smallDisk mounts a file system of that size in memory.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprint("size=", smallDiskBytes)); err != nil {
		t.Skipf("A FULL DISK IS NOT TESTED: mounting a tmpfs: %v (it takes root)", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// enlarge makes room on a file system of smallDisk.
func enlarge(t *testing.T, dir string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprint("size=", moreBytes)); err != nil {
		t.Fatal(err)
	}
}

// occupy takes all that is free on a file system of smallDisk, to the last byte.
func occupy(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "of-somebody-else"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		n, err := f.Write(make([]byte, size))
		bytes += int64(n)
		if errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return bytes
}

// fileBytes is the size of a file, 0 if it is not there.
func fileBytes(dir, name string) int64 {
	info, err := os.Stat(filepath.Join(dir, name))
	if err != nil {
		return 0
	}
	return info.Size()
}

// fillingStreams fill a disk.
func fillingStreams() []*stream {
	to := func(q string) func(uint64) []string { return func(uint64) []string { return []string{q} } }
	key := func(q string) func(uint64) string { return func(uint64) string { return q } }
	return []*stream{
		{name: "plain", key: key("q.0"), bodyBytes: func(seq uint64) int { return bodyHeaderBytes + int(seq*37%8000) }, queues: to("q.0"), final: to("q.0")},
		{name: "large", key: key("large"), bodyBytes: func(seq uint64) int { return int(200+seq%7*100) << 10 }, queues: to("large"), final: to("large")},
	}
}

// filled starts a broker on a small disk and its publishers.
func filled(t *testing.T, c *checker, dir string, args ...string) *life {
	c.nextLife()
	l := &life{t: t, c: c, s: serveData(t, dir, args...)}
	declareMixed(t, l.s, false)
	eventually(t, "something is kept back for a full disk", func() bool { return fileBytes(dir, "RESERVE") > 0 })
	l.publish(c.streams[0], 1000, 50)
	l.publish(c.streams[1], 8, 2)
	return l
}

// TestDiskFills lets load fill a small disk. Publishers are blocked in time, and
// nothing that was confirmed is missing after a kill; or, without a limit of free
// space, the broker ends with one line that says why, and the same holds.
func TestDiskFills(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	t.Run("blocked and killed", func(t *testing.T) {
		dir := smallDisk(t)
		c := newChecker(fillingStreams(), mixedQueues)
		l := filled(t, c, dir)
		blocked := l.watchBlocked()
		eventually(t, "publishers are blocked", blocked.Load)
		n := c.confirmedCount()
		l.ending.Store(true)
		l.s.cmd.Process.Kill()
		<-l.s.ended
		l.over()
		t.Logf("blocked after %d confirms", n)
		enlarge(t, dir)
		drain(t, c, dir)
		sent, sure := c.judge()
		report(t, c, sent, sure)
	})
	t.Run("blocked and drained", func(t *testing.T) {
		dir := smallDisk(t)
		c := newChecker(fillingStreams(), mixedQueues)
		l := filled(t, c, dir)
		blocked := l.watchBlocked()
		eventually(t, "publishers are blocked", blocked.Load)
		l.consume("q.0", 0)
		l.consume("large", 0)
		eventually(t, "publishers go on", func() bool { return !blocked.Load() })
		n := c.confirmedCount()
		eventually(t, "confirms go on", func() bool { return c.confirmedCount() > n+1000 })
		t.Logf("%d confirmed before, %d after", n, c.confirmedCount())
		killAndJudge(t, l, dir)
	})
	t.Run("blocked and made larger", func(t *testing.T) {
		dir := smallDisk(t)
		c := newChecker(fillingStreams(), mixedQueues)
		l := filled(t, c, dir)
		blocked := l.watchBlocked()
		eventually(t, "publishers are blocked", blocked.Load)
		n := c.confirmedCount()
		enlarge(t, dir)
		within(t, time.Second, "publishers go on", func() bool { return !blocked.Load() })
		eventually(t, "confirms go on", func() bool { return c.confirmedCount() > n+100 })
		killAndJudge(t, l, dir)
	})
	t.Run("taken by somebody else", takenBySomebodyElse)
	t.Run("full", func(t *testing.T) {
		dir := smallDisk(t)
		c := newChecker(fillingStreams(), mixedQueues)
		l := filled(t, c, dir, "--disk-free-limit", "0")
		l.ending.Store(true) // by itself
		select {
		case <-l.s.ended:
		case <-time.After(2 * patience):
			t.Error("still there on a full disk")
		}
		l.over()
		if code := l.s.cmd.ProcessState.ExitCode(); code <= 0 {
			t.Errorf("status %d", code)
		}
		said := l.s.stderr.String()
		if !strings.Contains(said, "\nwarren: ") || !strings.Contains(said, "no space left") || strings.Contains(said, "panic") {
			t.Errorf("it does not say clearly that the disk is full: %s", said)
		}
		t.Logf("ended with %s", said[strings.LastIndex(strings.TrimSpace(said), "\n")+1:])
		enlarge(t, dir)
		drain(t, c, dir)
		sent, sure := c.judge()
		report(t, c, sent, sure)
	})
}

// takenBySomebodyElse fills the disk to the last byte once publishers are blocked,
// and lets consumers free it.
func takenBySomebodyElse(t *testing.T) {
	dir := smallDisk(t)
	streams := fillingStreams()
	// Smaller than what has a file of its own, because those would make room at once.
	streams[1].bodyBytes = func(seq uint64) int { return int(100+seq%5*30) << 10 }
	c := newChecker(streams, mixedQueues)
	l := filled(t, c, dir)
	blocked := l.watchBlocked()
	eventually(t, "publishers are blocked", blocked.Load)
	n := c.confirmedCount()
	bytes := occupy(t, dir)
	l.consume("q.0", 0)
	l.consume("large", 0)
	eventually(t, "publishers go on", func() bool { return !blocked.Load() })
	eventually(t, "confirms go on", func() bool { return c.confirmedCount() > n+1000 })
	said := l.s.stderr.String()
	if !strings.Contains(said, "kept back for that is given up") {
		t.Errorf("the reserve was not needed: %s", said)
	}
	t.Logf("%d bytes taken by somebody else; %d confirmed before, %d after", bytes, n, c.confirmedCount())
	killAndJudge(t, l, dir)
}

// killAndJudge kills a broker under load and looks at what it has left.
func killAndJudge(t *testing.T, l *life, dir string) {
	t.Helper()
	l.ending.Store(true)
	l.s.cmd.Process.Kill()
	<-l.s.ended
	l.over()
	drain(t, l.c, dir)
	sent, sure := l.c.judge()
	report(t, l.c, sent, sure)
}

// confirmedCount is how many publishes of this life have been answered.
func (c *checker) confirmedCount() (n uint64) {
	for _, s := range c.streams {
		n += s.settled.Load()
	}
	return n
}

// watchBlocked tells whether a publisher is blocked: one that publishes now and
// then, to a queue of its own.
func (l *life) watchBlocked() *atomic.Bool {
	conn, err := amqp.Dial(l.s.url("guest:guest", ""))
	if err != nil {
		l.t.Fatal(err)
	}
	ch, err := conn.Channel()
	if err != nil {
		l.t.Fatal(err)
	}
	q, err := ch.QueueDeclare("", false, false, true, false, amqp.Table{"x-max-length": 1})
	if err != nil {
		l.t.Fatal(err)
	}
	var blocked atomic.Bool
	ended := make(chan struct{})
	notes := conn.NotifyBlocked(make(chan amqp.Blocking, 10))
	l.run("watch", func() error {
		defer close(ended)
		for n := range notes {
			blocked.Store(n.Active)
		}
		return nil
	})
	l.run("publish now and then", func() error {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return nil
			case <-tick.C:
				if blocked.Load() {
					continue
				}
				if err := ch.PublishWithContext(context.Background(), "", q.Name, false, false, amqp.Publishing{}); err != nil {
					return err
				}
			}
		}
	})
	// It may be blocked: say goodbye without waiting for an answer.
	l.atEnd(func() { conn.CloseDeadline(time.Now()) })
	return &blocked
}
