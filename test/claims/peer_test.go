package claims

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/internal/claimtest"
	"github.com/warrenmq/warren/reliable"
)

// patience bounds what the tests wait for. A killed RabbitMQ needs ten seconds to
// come back, on a busy machine far more.
const patience = 3 * time.Minute

// peer is a broker, or a cluster, that the tests cut, kill and start again.
type peer struct {
	urls   []string
	script string             // of test/peers; empty if nothing can be killed
	inner  *brokertest.Broker // the embedded one; nil for all others
	size   int
	once   int
	table  *table

	mu   sync.Mutex
	conn *amqp.Connection // of look
	ch   *amqp.Channel
}

// number reads an environment variable.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 100 {
		t.Fatalf("%s is %q, it has to be a number from 100 on", name, text)
	}
	return n
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	p := &peer{size: number(t, "WARREN_CLAIMS_SIZE", 300), script: os.Getenv("WARREN_CLAIMS_PEER"), table: &table{}}
	p.once = number(t, "WARREN_CLAIMS_ONCE", p.size)
	t.Cleanup(func() {
		if p.conn != nil {
			p.conn.Close()
		}
	})
	list := os.Getenv("WARREN_CLAIMS_URL")
	switch list {
	case "":
		t.Skip("WARREN_CLAIMS_URL names no broker; see the package comment")
	case "embedded":
		p.inner = brokertest.NewDurable(t)
		p.urls = []string{p.inner.URL()}
	default:
		p.urls = strings.Split(list, ",")
		if p.script != "" && !filepath.IsAbs(p.script) {
			t.Fatalf("WARREN_CLAIMS_PEER is %q, it has to be an absolute path: tests run in another folder", p.script)
		}
	}
	return p
}

// port is that of a node.
func (p *peer) port(node int) (string, error) {
	u, err := url.Parse(p.urls[node])
	if err != nil {
		return "", err
	}
	return u.Port(), nil
}

// tell runs a command of the script on a node, and returns what it printed.
func (p *peer) tell(node int, verb string, args ...string) (string, error) {
	port, err := p.port(node)
	if err != nil {
		return "", err
	}
	command := exec.Command(p.script, append([]string{verb, port}, args...)...)
	var failure strings.Builder
	command.Stderr = &failure
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%v: %w\n%s%s", command, err, out, &failure)
	}
	return strings.TrimSpace(string(out)), nil
}

// canCrash says whether crash does anything.
func (p *peer) canCrash() bool { return p.inner != nil || p.script != "" }

// crash kills a node with SIGKILL, or lets the embedded broker lose its power, and
// has it come back. It returns when it answers.
func (p *peer) crash(node int) error {
	if p.inner != nil {
		p.inner.CrashAndRestart()
		return nil
	}
	if p.script == "" {
		return nil
	}
	if _, err := p.tell(node, "kill"); err != nil {
		return err
	}
	_, err := p.tell(node, "restart")
	return err
}

// alarm has the broker block publishers, and ends that.
func (p *peer) alarm(t *testing.T, on bool) {
	t.Helper()
	switch {
	case p.inner != nil && on:
		p.inner.FillDisk()
	case p.inner != nil:
		p.inner.FreeDisk()
	default:
		if _, err := p.tell(0, "alarm", map[bool]string{true: "on", false: "off"}[on]); err != nil {
			t.Fatal(err)
		}
	}
}

// open returns a client whose connections the saboteur cuts. Its first connection
// goes to the first node.
func (p *peer) open(t *testing.T, config reliable.Config) (*reliable.Client, *claimtest.Saboteur) {
	t.Helper()
	s := claimtest.NewSaboteur(&net.Dialer{})
	if config.MaxPause == 0 {
		config.MinPause, config.MaxPause = time.Millisecond, 50*time.Millisecond
	}
	if os.Getenv("WARREN_CLAIMS_LOG") != "" {
		config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	var c *reliable.Client
	var err error
	// It tries each node once, and the broker may be away.
	for deadline := time.Now().Add(patience); ; <-time.After(100 * time.Millisecond) {
		if c, err = reliable.Open(within(t, patience), reliable.Transport{URLs: p.urls, Dialer: s}, config); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		s.Off()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		c.Close(ctx) // what is unsettled after a failure is of no interest
	})
	return c, s
}

// look calls f with a channel to any node, again and again while it fails, because
// the broker may be away.
func (p *peer) look(t *testing.T, f func(ch *amqp.Channel) error) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	for deadline, node := time.Now().Add(patience), 0; time.Now().Before(deadline); node++ {
		if err = p.channel(p.urls[node%len(p.urls)]); err == nil {
			if err = f(p.ch); err == nil {
				return
			}
		}
		if p.conn != nil {
			p.conn.Close()
			p.conn = nil
		}
		<-time.After(100 * time.Millisecond)
	}
	t.Fatalf("not within %v: %v", patience, err)
}

// channel sees to p.ch.
func (p *peer) channel(url string) (err error) {
	if p.conn != nil && !p.conn.IsClosed() && !p.ch.IsClosed() {
		return nil
	}
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
	conn, err := amqp.Dial(url)
	if err != nil {
		return err
	}
	p.conn = conn
	p.ch, err = conn.Channel()
	return err
}

// count is how many messages are in a queue; RabbitMQ counts those that are ready.
func (p *peer) count(t *testing.T, queue string) (n int) {
	t.Helper()
	p.look(t, func(ch *amqp.Channel) error {
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		n = q.Messages
		return err
	})
	return n
}

// queue names a queue of the test's own, and deletes it with the test.
func (p *peer) queue(t *testing.T, what string) reliable.Queue {
	q := reliable.Queue{Name: fmt.Sprintf("claims.%s.%d", what, time.Now().UnixNano())}
	t.Cleanup(func() {
		p.look(t, func(ch *amqp.Channel) error {
			_, err := ch.QueueDelete(q.Name, false, false, false)
			if err == nil {
				_, err = ch.QueueDelete(q.DeadLetterQueue(), false, false, false)
			}
			return err
		})
	})
	return q
}

// declare declares the queue before it is used, and gives RabbitMQ the time to write
// down which quorum queues it has. That takes it half a second after the declaration is
// confirmed; killed before, it finds that "configured member of queue ... was not found
// on this node", and starts the queue anew, without its confirmed messages.
func (p *peer) declare(t *testing.T, c *reliable.Client, q reliable.Queue) {
	t.Helper()
	all, err := c.Topology(q)
	if err == nil {
		err = c.Declare(within(t, patience), all)
	}
	if err != nil {
		t.Fatal(err)
	}
	if p.script != "" && strings.HasPrefix(c.Health().Server, "RabbitMQ") {
		<-time.After(3 * time.Second)
	}
}

// take empties a queue: how often each message id was in it. It ends when the
// queue is empty and all that are wanted have come, or nothing comes any more.
func (p *peer) take(t *testing.T, queue string, wanted int) (times map[string]int) {
	t.Helper()
	times = make(map[string]int, wanted)
	p.look(t, func(ch *amqp.Channel) error { return takeAll(ch, queue, wanted, times) })
	return times
}

func takeAll(ch *amqp.Channel, queue string, wanted int, times map[string]int) error {
	if err := ch.Qos(1000, 0, false); err != nil {
		return err
	}
	deliveries, err := ch.Consume(queue, "take", false, false, false, false, nil)
	if err != nil {
		return err
	}
	var last amqp.Delivery
	unacked := 0
	for {
		wait := 10 * time.Second
		if len(times) >= wanted {
			wait = time.Second
		}
		select {
		case d, ok := <-deliveries:
			if !ok {
				return fmt.Errorf("the channel was lost while %s was emptied", queue)
			}
			times[d.MessageId]++
			last = d
			if unacked++; unacked < 500 {
				continue
			}
		case <-time.After(wait):
			if unacked == 0 {
				return ch.Cancel("take", false)
			}
		}
		if err := last.Ack(true); err != nil {
			return err
		}
		unacked = 0
	}
}

// crashes kills the broker when the work reaches certain points, each once, beside
// the work. In a cluster it is the node that the client is connected to, and then
// the one that leads the queue.
type crashes struct {
	p     *peer
	t     *testing.T
	s     *claimtest.Saboteur
	queue reliable.Queue

	mu sync.Mutex
	at []int
	wg sync.WaitGroup
	n  int
}

func (p *peer) crashes(t *testing.T, s *claimtest.Saboteur, queue reliable.Queue, at ...int) *crashes {
	c := &crashes{p: p, t: t, s: s, queue: queue, at: at}
	if !p.canCrash() {
		c.at = nil
	}
	t.Cleanup(c.wait)
	return c
}

// reached says how far the work is. While a broker is away, it is not killed.
func (c *crashes) reached(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.at) == 0 || n < c.at[0] {
		return
	}
	c.at = c.at[1:]
	c.wg.Wait()
	which := c.n
	c.n++
	c.wg.Go(func() { c.crash(which) })
}

// now is one more crash, which it waits for.
func (c *crashes) now() {
	c.wait()
	if c.p.canCrash() {
		c.n++
		c.crash(c.n - 1)
	}
}

func (c *crashes) crash(which int) {
	node, err := 0, error(nil)
	switch {
	case len(c.p.urls) == 1:
	case which%2 == 0:
		node, err = c.p.connectedTo(c.s)
	default:
		node, err = c.p.leader(c.queue)
	}
	if err == nil {
		err = c.p.crash(node)
	}
	if err != nil {
		c.t.Error(err)
	}
}

// connectedTo is the node that a client is connected to.
func (p *peer) connectedTo(s *claimtest.Saboteur) (node int, err error) {
	addr := s.Address()
	return p.nodeOf(addr[strings.LastIndexByte(addr, ':')+1:])
}

// leader is the node that leads a queue.
func (p *peer) leader(q reliable.Queue) (node int, err error) {
	port, err := p.tell(0, "leader", q.Name)
	if err != nil {
		return 0, err
	}
	return p.nodeOf(port)
}

func (p *peer) nodeOf(port string) (node int, err error) {
	for node := range p.urls {
		if have, err := p.port(node); err == nil && have == port {
			return node, nil
		}
	}
	return 0, fmt.Errorf("no node has the port %q", port)
}

// wait returns when the broker is back.
func (c *crashes) wait() { c.wg.Wait() }

// all fails the test if not all crashes took place.
func (c *crashes) all() int {
	c.t.Helper()
	c.wait()
	if len(c.at) > 0 {
		c.t.Errorf("%d crashes did not take place", len(c.at))
	}
	return c.n
}

// within is a context for a call that has to end.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// until waits for a condition.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
