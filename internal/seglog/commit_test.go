package seglog

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warrenmq/warren/internal/vfs"
)

// reserveForced appends a record that somebody waits for, without Commit.
func reserveForced(l *Log) LSN {
	r := l.Reserve(1, 100+RecordOverhead, true)
	r.Add(1, 100)
	return r.Done()
}

// TestCommitHere: on a log that rests, the caller is the committer, and what it has
// reserved is durable when it returns.
func TestCommitHere(t *testing.T) {
	for name, bring := range map[string]func(*Log, LSN){
		"Commit":      func(l *Log, _ LSN) { l.Commit(true) },
		"WaitDurable": func(l *Log, at LSN) { l.WaitDurable(at) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fault := vfs.NewFault(vfs.NewMem())
				c := memConfig(fault)
				heard := LSN(0)
				c.OnDurable = func(at LSN) { heard = at }
				l, _, err := Open(c, nil)
				if err != nil {
					t.Fatal(err)
				}
				for range 20 {
					synctest.Wait()
					at := reserveForced(l)
					bring(l, at)
					if l.Durable() != at || heard != at {
						t.Fatalf("durable %d, heard of %d, want %d", l.Durable(), heard, at)
					}
				}
				l.Commit(true) // nothing to do
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// TestCommitWhileBusy: who finds somebody else at it, or a slow disk, does not wait,
// and what it has reserved is written all the same.
func TestCommitWhileBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, fault := openOnFault(t, func(*Config) {})
		first := reserveForced(l)
		l.Commit(true) // makes the file
		fault.Add(vfs.Rule{Kinds: vfs.OpDatasync, Before: func(vfs.Op) { time.Sleep(time.Second) }})
		start := time.Now()
		done := make(chan struct{})
		second := reserveForced(l)
		go func() {
			defer close(done)
			l.Commit(true)
		}()
		synctest.Wait() // it syncs
		third := reserveForced(l)
		l.Commit(true)
		if d := time.Since(start); d != 0 || l.Durable() != first {
			t.Errorf("it has waited for %v, durable is %d", d, l.Durable())
		}
		<-done
		if l.Durable() != second {
			t.Errorf("durable is %d, want %d", l.Durable(), second)
		}
		time.Sleep(1500 * time.Millisecond)
		if l.Durable() != third {
			t.Errorf("durable is %d, want %d: nobody has gone on", l.Durable(), third)
		}
		// The disk is known to be slow now.
		start = time.Now()
		fourth := reserveForced(l)
		l.Commit(true)
		if d := time.Since(start); d != 0 {
			t.Errorf("it has waited for a slow disk, %v", d)
		}
		time.Sleep(1500 * time.Millisecond)
		if l.Durable() != fourth {
			t.Errorf("durable is %d, want %d", l.Durable(), fourth)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// openOnFault opens a log on a disk in memory that faults can be added to. Its
// committer waits then.
func openOnFault(t *testing.T, change func(*Config)) (*Log, *vfs.Fault) {
	t.Helper()
	fault := vfs.NewFault(vfs.NewMem())
	c := memConfig(fault)
	change(&c)
	l, _, err := Open(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return l, fault
}

// TestClaimIsNoSync: what an idle log writes without a sync says nothing of how long
// syncs take.
func TestClaimIsNoSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, fault := openOnFault(t, func(c *Config) { c.ClaimDelay = 200 * time.Millisecond })
		reserveForced(l)
		l.Commit(true) // makes the file
		fault.Add(vfs.Rule{Kinds: vfs.OpDatasync, Before: func(vfs.Op) { time.Sleep(time.Second) }})
		reserveForced(l)
		l.Commit(true)          // slow
		time.Sleep(time.Minute) // a claim is written
		start := time.Now()
		at := reserveForced(l)
		l.Commit(true)
		if d := time.Since(start); d != 0 {
			t.Errorf("it has waited for a slow disk, %v", d)
		}
		if err := l.WaitDurable(at); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestCommitHereFails: a disk that fails under a caller stops the log as it does
// under the committer.
func TestCommitHereFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard error
		l, fault := openOnFault(t, func(c *Config) { c.OnFailure = func(err error) { heard = err } })
		broken := errors.New("broken")
		fault.Add(vfs.Rule{Kinds: vfs.OpDatasync, Err: broken})
		at := reserveForced(l)
		l.Commit(true)
		if !errors.Is(heard, broken) || !errors.Is(l.Err(), broken) {
			t.Errorf("heard of %v, the log says %v", heard, l.Err())
		}
		if err := l.WaitDurable(at); !errors.Is(err, broken) {
			t.Errorf("WaitDurable: %v", err)
		}
		reserveForced(l)
		l.Commit(true)
		l.Abandon()
	})
}
