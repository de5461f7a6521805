package doctor

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/warrenmq/warren/internal/mgmtclient"
)

// Look is what a management API shows at one time.
type Look struct {
	Overview  mgmtclient.Overview
	Monitors  bool // the user sees everybody's connections
	Queues    []mgmtclient.Queue
	Exchanges []mgmtclient.Exchange
	Bindings  []mgmtclient.Binding
	Consumers []mgmtclient.Consumer
	Channels  []mgmtclient.Channel
}

// LookAt reads a virtual host, or all that the user may see if vhost is empty.
func LookAt(ctx context.Context, c *mgmtclient.Client, vhost string) (*Look, error) {
	l := &Look{}
	who, err := c.Whoami(ctx)
	if err != nil {
		return nil, err
	}
	l.Monitors = who.Monitors()
	if l.Overview, err = c.Overview(ctx); err != nil {
		return nil, err
	}
	if l.Overview.DisableStats {
		return nil, fmt.Errorf("%s has its statistics switched off (management.disable_stats): nothing can be found out from it", c.Address())
	}
	if l.Queues, err = c.Queues(ctx, vhost); err != nil {
		return nil, err
	}
	if l.Exchanges, err = c.Exchanges(ctx, vhost); err != nil {
		return nil, err
	}
	if l.Bindings, err = c.Bindings(ctx, vhost); err != nil {
		return nil, err
	}
	if l.Consumers, err = c.Consumers(ctx, vhost); err != nil {
		return nil, err
	}
	if l.Channels, err = c.Channels(ctx); err != nil {
		return nil, err
	}
	if vhost != "" {
		l.Channels = slices.DeleteFunc(l.Channels, func(ch mgmtclient.Channel) bool { return ch.VHost != vhost })
	}
	return l, nil
}

// Options say what to examine, and what the broker cannot know.
type Options struct {
	// Queues limits the checks of queues and consumers to these names.
	Queues []string
	// HandlerTimeout is how long handlers may take; 0 if nobody says.
	HandlerTimeout time.Duration
	// Backlog is from how many messages on a growing queue is a finding.
	Backlog int
	// Interval was between the two looks.
	Interval time.Duration
	// Samples are messages that were looked at, by queue.
	Samples map[Place][]mgmtclient.Message
	// Sampled tells that messages were meant to be looked at.
	Sampled bool
}

// Place is a queue or exchange of a virtual host.
type Place struct{ VHost, Name string }

// examination is what checks share.
type examination struct {
	*Report
	o           Options
	first, now  *Look // the same if there was one look
	queues      map[Place]*mgmtclient.Queue
	before      map[Place]*mgmtclient.Queue
	exchanges   map[Place]*mgmtclient.Exchange
	bindings    map[Place][]mgmtclient.Binding // by source
	deadLetters map[Place]bool                 // queues where dead letters arrive
	consumers   map[Place][]mgmtclient.Consumer
	wanted      settings        // what commands are to give queues
	shared      []shared        // delay networks as they should be
	levels      map[string]bool // the names of their levels
	network     map[Place]bool  // their levels
	lost        map[Place]bool  // their queues for messages whose own is gone
}

// Examine compares two looks; second may be nil if there was one only.
func Examine(first, second *Look, o Options) *Report {
	x := newExamination(first, second, o)
	for _, check := range []func(){x.consuming, x.publishing, x.deadLettering, x.limits, x.redelivering, x.transient, x.stuck,
		x.networks, x.waiting, x.timeouts, x.ids} {
		check()
	}
	x.writeCommands()
	x.Examined = fmt.Sprintf("%s, %s, %s", count(len(x.now.Queues), "queue"), count(len(x.now.Consumers), "consumer"), count(len(x.now.Channels), "channel"))
	x.unexamined(second != nil)
	x.sort()
	return x.Report
}

func newExamination(first, second *Look, o Options) *examination {
	x := &examination{Report: &Report{Product: first.Overview.Product, Version: first.Overview.Version, Findings: []Finding{}, Unexamined: []string{}},
		o: o, first: first, now: second}
	if second == nil {
		x.now = first
	}
	x.index()
	return x
}

func (x *examination) unexamined(twice bool) {
	if !x.now.Monitors {
		x.skip("other users' connections, channels and consumers: the user has neither the tag monitoring nor administrator")
	}
	if !twice {
		x.skip("%s, %s, %s: they take two looks (--interval)", GrowingBacklog, RedeliveryLoop, DeadLettersStuck)
	}
	if x.o.HandlerTimeout == 0 {
		x.skip("%s: say with --handler-timeout how long your handlers may take", ConsumerTimeout)
	}
	if !x.o.Sampled {
		x.skip("%s: it takes messages out of the queues for a moment and marks them redelivered, so it wants --sample", NoMessageID)
	}
}

func (x *examination) index() {
	x.queues, x.before = map[Place]*mgmtclient.Queue{}, map[Place]*mgmtclient.Queue{}
	x.exchanges, x.bindings = map[Place]*mgmtclient.Exchange{}, map[Place][]mgmtclient.Binding{}
	x.consumers, x.network, x.lost = map[Place][]mgmtclient.Consumer{}, map[Place]bool{}, map[Place]bool{}
	x.levels, x.wanted = map[string]bool{}, settings{}
	for i := range x.now.Queues {
		q := &x.now.Queues[i]
		x.queues[placeOf(q)] = q
	}
	for i := range x.first.Queues {
		q := &x.first.Queues[i]
		x.before[placeOf(q)] = q
	}
	for i := range x.now.Exchanges {
		e := &x.now.Exchanges[i]
		x.exchanges[Place{e.VHost, e.Name}] = e
	}
	for _, b := range x.now.Bindings {
		from := Place{b.VHost, b.Source}
		x.bindings[from] = append(x.bindings[from], b)
	}
	for _, c := range x.now.Consumers {
		p := Place{c.Queue.VHost, c.Queue.Name}
		x.consumers[p] = append(x.consumers[p], c)
	}
	x.findNetworks()
	x.findDeadLetters()
}

func placeOf(q *mgmtclient.Queue) Place { return Place{q.VHost, q.Name} }

// work goes through the queues that the checks are about: those meant to last, in
// order, delay levels apart.
func (x *examination) work(f func(q *mgmtclient.Queue)) {
	for i := range x.now.Queues {
		q := &x.now.Queues[i]
		if lasting(q) && !x.network[placeOf(q)] && x.meant(q.Name) {
			f(q)
		}
	}
}

func (x *examination) meant(name string) bool {
	return len(x.o.Queues) == 0 || slices.Contains(x.o.Queues, name)
}

// lasting: nobody expects of other queues that they keep anything.
func lasting(q *mgmtclient.Queue) bool {
	return q.Durable && !q.Exclusive && !q.AutoDelete && q.Type != "stream"
}

// findDeadLetters follows every dead-letter exchange to the queues where dead
// letters stay. From a queue with a time to live they only come back later, so
// where those lead to is an ordinary queue.
func (x *examination) findDeadLetters() {
	x.deadLetters = map[Place]bool{}
	for p := range x.lost {
		x.deadLetters[p] = true
	}
	for _, n := range x.shared { // also those whose work queue is gone
		for _, e := range n.topology.Exchanges {
			for _, vhost := range x.vhosts() {
				if e.Type == "direct" {
					x.follow(Place{vhost, e.Name}, map[Place]bool{}, func(p Place) { x.deadLetters[p] = true })
				}
			}
		}
	}
	for i := range x.now.Queues {
		q := &x.now.Queues[i]
		exchange, has := q.Argument("x-dead-letter-exchange").(string)
		if !has || q.Argument("x-message-ttl") != nil {
			continue
		}
		if exchange == "" {
			x.deadLetters[Place{q.VHost, deadLetterKey(q)}] = true
			continue
		}
		x.follow(Place{q.VHost, exchange}, map[Place]bool{}, func(p Place) { x.deadLetters[p] = true })
	}
}

// deadLetterKey is the routing key of q's dead letters, "" if they keep their own
// and more than one is possible.
func deadLetterKey(q *mgmtclient.Queue) string {
	key, _ := q.Argument("x-dead-letter-routing-key").(string)
	return key
}

// follow calls f for every queue that an exchange can lead to.
func (x *examination) follow(from Place, seen map[Place]bool, f func(Place)) {
	if seen[from] {
		return
	}
	seen[from] = true
	for _, b := range x.bindings[from] {
		to := Place{b.VHost, b.Destination}
		if b.DestinationType == "exchange" {
			x.follow(to, seen, f)
		} else {
			f(to)
		}
	}
	if alternate := x.alternate(from); alternate != "" {
		x.follow(Place{from.VHost, alternate}, seen, f)
	}
}

// alternate is the exchange for what another one does not want, by argument or
// policy.
func (x *examination) alternate(p Place) string {
	e := x.exchanges[p]
	if e == nil {
		return ""
	}
	if a := e.Arguments.Text("alternate-exchange"); a != "" {
		return a
	}
	return e.Policy.Text("alternate-exchange")
}

// warren: the broker is this project's.
func (x *examination) warren() bool { return x.now.Overview.Product == "WarrenMQ" }

// rabbitBefore: the broker is a RabbitMQ that is older.
func (x *examination) rabbitBefore(major int) bool {
	text, _, _ := strings.Cut(x.now.Overview.Version, ".")
	have, err := strconv.Atoi(text)
	return !x.warren() && err == nil && have < major
}
