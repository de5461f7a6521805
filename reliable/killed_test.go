package reliable_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/internal/claimtest"
	"github.com/warrenmq/warren/reliable"
	"github.com/warrenmq/warren/reliable/dedup/boltstore"
)

// Claim: a retry neither loses nor forks, also when the consuming process is killed.
// The test starts itself again as that process, which kills itself at one of the
// moments below; the broker is in the test.

// The moments of a message's handling at which the process can end.
const (
	inHandler     = "in the handler"
	afterEffect   = "after the effect"
	beforeCopy    = "before the copy"
	afterCopy     = "after the copy"
	beforeConfirm = "before the confirm"
	beforeAck     = "before the ack"
	afterAck      = "after the ack"
)

// childEnv has the child's task, as JSON.
const childEnv = "WARREN_RELIABLE_TEST_CHILD"

// childTask is what the process is told.
type childTask struct {
	URL, DB string
	InTx    bool   // exact effects, else Idempotent
	Moment  string // when to die; empty means never
	Nth     int    // which time, from 1
	Life    int    // which process it is, from 0
}

// effects is the bucket of what the handler has done, one 'x' each time.
var effects = []byte("effects")

func TestClaimRetrySurvivesKilledProcess(t *testing.T) {
	for _, inTx := range []bool{true, false} {
		for moment, least := range map[string]int{
			inHandler: 4, afterEffect: 2, beforeCopy: 2, afterCopy: 2, beforeConfirm: 2, beforeAck: 4, afterAck: 4,
		} {
			t.Run(fmt.Sprintf("%s, InTx=%v", moment, inTx), func(t *testing.T) {
				t.Parallel()
				k := newKilling(t, childTask{InTx: inTx, Moment: moment})
				rounds := 0
				for k.round(rounds) {
					rounds++
				}
				if rounds < least {
					t.Errorf("killed %d times, expected %d at least", rounds, least)
				}
				k.check(rounds)
			})
		}
	}
}

// killing is a broker and the processes that consume from it, one after the other.
type killing struct {
	t      *testing.T
	b      *brokertest.Broker
	client *reliable.Client
	out    *reliable.Publisher[string]
	task   childTask
}

func newKilling(t *testing.T, task childTask) *killing {
	k := &killing{t: t, b: brokertest.New(t), task: task}
	k.task.URL, k.task.DB = k.b.URL(), filepath.Join(t.TempDir(), "db")
	k.client = open(t, k.b)
	k.out = publisher[string](t, k.client, reliable.ToQueue(orders))
	return k
}

// round publishes three messages and has a process handle them that dies at its
// moment for the n-th time, from 0, and then another one. It returns false if that
// moment did not come any more.
func (k *killing) round(n int) (killed bool) {
	for _, what := range []string{"fine", "retried", "dead"} {
		if err := k.out.Publish(within(k.t, patience), what, reliable.ID(fmt.Sprintf("%s-%d", what, n))); err != nil {
			k.t.Fatal(err)
		}
	}
	task := k.task
	task.Nth = n + 1
	if killed = k.run(task); killed {
		task.Moment, task.Life = "", 1
		if k.run(task) {
			k.t.Fatal("a process has died that was not to")
		}
	}
	return killed
}

// run starts a process and returns when it has died, or has handled everything and
// was ended.
func (k *killing) run(task childTask) (killed bool) {
	k.t.Helper()
	text, err := json.Marshal(task)
	if err != nil {
		k.t.Fatal(err)
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+string(text))
	var complaints strings.Builder
	child.Stderr = &complaints
	in, err := child.StdinPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		k.t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() {
		_, _ = io.Copy(io.Discard, bufio.NewReader(out))
		over <- child.Wait()
	}()
	end := func() error { in.Close(); return <-over }
	defer child.Process.Kill() // if the test fails
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	late := time.After(patience)
	for {
		select {
		case err := <-over:
			if child.ProcessState.Exited() {
				k.t.Fatalf("the process ended by itself: %v\n%s", err, complaints.String())
			}
			return true
		case <-ticker.C:
			if !k.idle() {
				continue
			}
			err := end()
			if err != nil && child.ProcessState.Exited() {
				k.t.Fatalf("the process ended with %v\n%s", err, complaints.String())
			}
			return err != nil // it can still die, of its last acknowledgement
		case <-late:
			k.t.Fatalf("the messages were not handled within %v: %v\n%s", patience, k.depths(), complaints.String())
		}
	}
}

// depths is how many messages each queue has, delivered ones included.
func (k *killing) depths() map[string]int {
	request := httptest.NewRequest(http.MethodGet, "/api/queues", nil)
	request.SetBasicAuth("guest", "guest")
	request.RemoteAddr = "127.0.0.1:1" // guest may come from this machine only
	answer := httptest.NewRecorder()
	k.b.ManagementHandler().ServeHTTP(answer, request)
	var queues []struct {
		Name     string
		Messages int
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &queues); err != nil {
		k.t.Fatalf("%v: %s", err, answer.Body)
	}
	depths := map[string]int{}
	for _, q := range queues {
		depths[q.Name] = q.Messages
	}
	return depths
}

// idle says that nothing is to be handled and nothing waits.
func (k *killing) idle() bool {
	depths := k.depths()
	delete(depths, orders.DeadLetterQueue())
	for _, n := range depths {
		if n > 0 {
			return false
		}
	}
	return true
}

// check wants one outcome of each message.
func (k *killing) check(rounds int) {
	db, err := bbolt.Open(k.task.DB, 0o600, &bbolt.Options{Timeout: patience})
	if err != nil {
		k.t.Fatal(err)
	}
	defer db.Close()
	done := map[string]int{}
	if err := db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(effects).ForEach(func(id, times []byte) error { done[string(id)] = len(times); return nil })
	}); err != nil {
		k.t.Fatal(err)
	}
	buried := map[string]int{}
	letters, err := claimtest.Scan(k.client.DeadLetters(orders), reliable.Filter{})
	if err != nil {
		k.t.Fatal(err)
	}
	for _, l := range letters {
		if !l.Duplicate {
			buried[l.ID]++
		}
	}
	for n := range rounds + 1 {
		for _, what := range []string{"fine", "retried", "dead"} {
			id := fmt.Sprintf("%s-%d", what, n)
			wantDone, wantBuried := 1, 0
			if what == "dead" {
				wantDone, wantBuried = 0, 1
			}
			// Without a transaction that they share, the process can die between an
			// effect and its record: it dies of one message while it handles another.
			twice := !k.task.InTx && wantDone == 1 && done[id] == 2
			if (done[id] != wantDone && !twice) || buried[id] != wantBuried {
				k.t.Errorf("%s: done %d times, %d times among the dead letters", id, done[id], buried[id])
			}
		}
	}
	if len(done)+len(buried) != 3*(rounds+1) {
		k.t.Errorf("%d messages are done and %d dead, of %d", len(done), len(buried), 3*(rounds+1))
	}
}

// runChild is the process: it consumes until its standard input ends.
func runChild(task childTask) error {
	db, err := bbolt.Open(task.DB, 0o600, &bbolt.Options{Timeout: patience, NoSync: true})
	if err != nil {
		return err
	}
	defer db.Close()
	// The next process comes when the leases of the one before are over.
	later := time.Duration(2*task.Nth+task.Life) * time.Hour
	store, err := boltstore.New(db, boltstore.Options{Now: func() time.Time { return time.Now().Add(later) }})
	if err != nil {
		return err
	}
	e := &executioner{moment: task.Moment, left: task.Nth}
	ctx := context.Background()
	client, err := reliable.Open(ctx, reliable.Transport{URLs: []string{task.URL}, Dialer: e}, reliable.Config{})
	if err != nil {
		return err
	}
	once := reliable.Idempotent("child", store)
	if task.InTx {
		once = reliable.InTx("child", store)
	}
	_, err = reliable.Consume(ctx, client, orders, func(ctx context.Context, m *reliable.Message[string]) error {
		e.reached(inHandler)
		switch {
		case m.Body == "dead" && m.Attempt == 2:
			return reliable.Permanent(errors.New("for good"))
		case m.Body != "fine" && m.Attempt == 1:
			return errors.New("the first attempt fails")
		}
		effect := func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists(effects)
			if err != nil {
				return err
			}
			return bucket.Put([]byte(m.ID), append(append([]byte{}, bucket.Get([]byte(m.ID))...), 'x'))
		}
		var err error
		if task.InTx {
			err = effect(boltstore.TxFrom(ctx))
		} else {
			err = db.Update(effect)
		}
		e.reached(afterEffect)
		return err
	}, once, reliable.Retry(reliable.RetryPolicy{MaxAttempts: 20, Backoff: reliable.Schedule(reliable.DelayUnit)}))
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return client.Close(ctx)
}

// executioner kills its own process when a moment comes. For moments of the protocol
// it dials connections that look at the frames.
type executioner struct {
	moment string

	mu   sync.Mutex
	left int // so many times the moment still has to come
}

// reached counts a moment, and kills the process when it is the one.
func (e *executioner) reached(moment string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if moment != e.moment {
		return
	}
	if e.left--; e.left > 0 {
		return
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {} // nothing is done any more
}

func (e *executioner) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &watchedConn{Conn: conn, e: e}, nil
}

type watchedConn struct {
	net.Conn
	e       *executioner
	in, out frameScanner
}

// The methods at which there is a moment: class and method id.
const (
	basicPublish = 60<<16 | 40
	basicAck     = 60<<16 | 80
)

func (c *watchedConn) Write(b []byte) (int, error) {
	var after []string
	done := 0
	for _, m := range c.out.methods(b) {
		var before string
		switch m.id {
		case basicPublish:
			before, after = beforeCopy, append(after, afterCopy)
		case basicAck:
			before, after = beforeAck, append(after, afterAck)
		default:
			continue
		}
		if m.at > done { // what stands before the frame has left the process
			n, err := c.Conn.Write(b[done:m.at])
			if done += n; err != nil {
				return done, err
			}
		}
		c.e.reached(before)
	}
	n, err := c.Conn.Write(b[done:])
	for _, moment := range after {
		c.e.reached(moment)
	}
	return done + n, err
}

func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for _, m := range c.in.methods(b[:n]) {
		if m.id == basicAck {
			c.e.reached(beforeConfirm)
		}
	}
	return n, err
}

// frameScanner finds the methods in a stream of frames.
type frameScanner struct {
	head []byte // the beginning of a frame that is not known yet
	skip int    // what is left of the frame before
}

type foundMethod struct {
	id uint32 // class and method
	at int    // where its frame begins in what was given; 0 if before it
}

func (s *frameScanner) methods(b []byte) (found []foundMethod) {
	const header, method = 7, 4
	for at := 0; ; {
		jump := min(s.skip, len(b)-at)
		s.skip -= jump
		if at += jump; at == len(b) {
			return found
		}
		s.head = append(s.head, b[at])
		at++
		switch {
		case string(s.head) == "AMQP\x00\x00\x09\x01": // what a client begins with
			s.head = nil
		case len(s.head) == header && s.head[0] != 1 && s.head[0] != 'A': // content, heartbeat
			s.skip = int(binary.BigEndian.Uint32(s.head[3:])) + 1
			s.head = nil
		case len(s.head) == header+method && s.head[0] == 1:
			found = append(found, foundMethod{binary.BigEndian.Uint32(s.head[header:]), max(0, at-header-method)})
			s.skip = int(binary.BigEndian.Uint32(s.head[3:])) + 1 - method
			s.head = nil
		}
	}
}

// childProcess runs the child if this process is one.
func childProcess() {
	text := os.Getenv(childEnv)
	if text == "" {
		return
	}
	var task childTask
	err := json.Unmarshal([]byte(text), &task)
	if err == nil {
		err = runChild(task)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
