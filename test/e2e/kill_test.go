package e2e

import (
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// A kill counts if it falls with at least this much in the air.
	minUnconfirmed = 1000
	minUnacked     = 100

	defaultKills = 4

	// longLife is how long every fourth life takes at least: what the broker does
	// each second, such as checkpoints, happens in those.
	longLife = 900 * time.Millisecond

	drainPatience = 2 * time.Minute
)

// fromEnv is a number from the environment.
func fromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestKill kills the broker under load again and again, drains what is left
// after the last restart, and compares. WARREN_E2E_KILLS is how many kills,
// WARREN_E2E_SEED chooses their moments.
//
//	WARREN_E2E_KILLS=50 go test -run TestKill -v -timeout 20m ./test/e2e
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	kills := int(fromEnv(t, "WARREN_E2E_KILLS", defaultKills))
	seed := fromEnv(t, "WARREN_E2E_SEED", uint64(time.Now().UnixNano()))
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := evidence(t)
	c := newChecker(mixedStreams(), mixedQueues)
	// By command each kill has to fall under load; a machine that is busy with
	// other tests may not manage that, and the comparison counts all the same.
	demanding := os.Getenv("WARREN_E2E_KILLS") != ""
	counted, least, leastUnacked := 0, int64(1<<40), int64(1<<40)
	for n := 1; counted < kills; n++ {
		if n > 2*kills {
			t.Fatalf("only %d of %d kills fell under enough load", counted, n-1)
		}
		if n%5 == 0 {
			killWhileStarting(t, dir, time.Duration(random.IntN(30))*time.Millisecond)
		}
		length := time.Duration(random.IntN(250)) * time.Millisecond
		if n%4 == 0 {
			length = longLife + 3*length
		}
		unconfirmed, unacked := oneLife(t, c, dir, n > 1, length)
		t.Logf("kill %d: %d publishes unconfirmed, %d deliveries unacked", n, unconfirmed, unacked)
		if !demanding || unconfirmed >= minUnconfirmed && unacked >= minUnacked {
			counted++
			least, leastUnacked = min(least, unconfirmed), min(leastUnacked, unacked)
		}
		if t.Failed() {
			break
		}
	}
	drain(t, c, dir)
	sent, sure := c.judge()
	t.Logf("%d kills, each with at least %d publishes unconfirmed and %d deliveries unacked", counted, least, leastUnacked)
	report(t, c, sent, sure)
}

// evidence is a directory that stays if the test fails.
func evidence(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "warren-kill-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the data directory is kept: %s", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// report prints the checker's counts; what must not happen fails the test.
func report(t *testing.T, c *checker, sent, sure int) {
	t.Logf("sent %d, confirmed %d, received %d, recovered %d (%d of them flagged redelivered, %d after a lost ack)",
		sent, sure, c.received.Load(), c.recovered.Load(), c.flagged.Load(), c.returned.Load())
	t.Logf("lost %d, invented %d, duplicated %d, disordered %d", c.problems["lost"], c.problems["invented"], c.problems["duplicated"], c.problems["disordered"])
	for _, kind := range slices.Sorted(maps.Keys(c.problems)) {
		t.Errorf("%s: %d", kind, c.problems[kind])
	}
	for _, e := range c.examples {
		t.Log(e)
	}
}

// serveData runs a broker with a data directory.
func serveData(t *testing.T, dir string, args ...string) *server {
	t.Helper()
	return serve(t, append([]string{"--listen", "127.0.0.1:0", "--data", dir, "--log-level", "warn"}, args...)...)
}

// killWhileStarting kills a broker that may not have recovered yet.
func killWhileStarting(t *testing.T, dir string, after time.Duration) {
	t.Helper()
	cmd := exec.Command(binary(), "serve", "--listen", "127.0.0.1:0", "--data", dir)
	cmd.Env = environment()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-time.After(after)
	cmd.Process.Kill()
	cmd.Wait()
}

// oneLife starts the broker, puts it under load and kills it.
func oneLife(t *testing.T, c *checker, dir string, again bool, length time.Duration) (unconfirmed, unacked int64) {
	t.Helper()
	c.nextLife()
	l := &life{t: t, c: c, s: serveData(t, dir)}
	declareMixed(t, l.s, again)
	for _, s := range c.streams {
		switch s.name {
		case "tx":
			l.transactions(s)
		case "large":
			l.publish(s, 16, 2)
		case "plain", "fan":
			l.publish(s, 4000, 100)
		default:
			l.publish(s, 1000, 50)
		}
	}
	for _, q := range []string{"q.0", "q.1", "q.2", "q.3", "fan.a", "dead"} {
		l.consume(q, 50)
	}
	l.consume("large", 2)
	l.consume("tx.out", 10)
	l.work()
	l.move()
	<-time.After(length)
	eventually(t, "enough in the air", func() bool {
		return t.Failed() || c.unconfirmed() >= 2*minUnconfirmed && l.held.Load() >= 2*minUnacked
	})
	var written []uint64
	for _, s := range c.streams {
		written = append(written, s.written.Load())
	}
	l.ending.Store(true)
	l.s.cmd.Process.Kill()
	<-l.s.ended
	l.over()
	// Only now is it known what was answered: what the system had taken before
	// the kill and nobody has answered was in the air.
	for i, s := range c.streams {
		s.written.Store(written[i])
	}
	return c.unconfirmed(), l.held.Load()
}

// drain empties all queues of a broker that nobody kills, and looks whether they
// stay empty over an orderly restart.
func drain(t *testing.T, c *checker, dir string) {
	t.Helper()
	c.nextLife()
	l := &life{t: t, c: c, s: serveData(t, dir)}
	for _, q := range mixedQueues {
		if q != "ttl" && q != "work" && q != "tx.in" {
			l.consume(q, 0)
		}
	}
	l.work()
	l.move()
	conn, err := amqp.Dial(l.s.url("guest:guest", ""))
	if err != nil {
		t.Fatal(err)
	}
	empty, before := 0, int64(-1)
	within(t, drainPatience, "queues empty", func() bool {
		received := c.received.Load()
		if messages(t, conn) == 0 && l.held.Load() == 0 && received == before {
			empty++
		} else {
			empty = 0
		}
		before = received
		return empty >= 3*ttlMillis/5
	})
	conn.Close()
	l.over()
	if code := l.s.terminate(); code != 0 {
		t.Errorf("status %d on SIGTERM", code)
	}
	s := serveData(t, dir)
	conn, err = amqp.Dial(s.url("guest:guest", ""))
	if err != nil {
		t.Fatal(err)
	}
	if n := messages(t, conn); n != 0 {
		t.Errorf("%d messages are back after an orderly restart", n)
	}
	conn.Close()
	s.terminate()
}

// messages is how many messages are ready in all queues.
func messages(t *testing.T, conn *amqp.Connection) (n int) {
	t.Helper()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	for _, q := range mixedQueues {
		state, err := ch.QueueDeclarePassive(q, true, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		n += state.Messages
	}
	return n
}
