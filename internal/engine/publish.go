package engine

import (
	"strconv"
	"strings"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/core/topology"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/wire"
)

// run is what a connection's reader has gathered and not yet applied: publishes
// grouped by route, and settled deliveries grouped by where they came from.
type run struct {
	number   uint64 // of the running run; a route's group counts only if its run is this
	groups   []group
	settling []*source
	channels []*Channel // with publishes to confirm
}

// group is the publishes of one run with the same destinations.
type group struct {
	queues []*Queue
	items  []item
	bytes  int // of the records
}

// item is one publish on its way into its queues. The record may point into the
// read buffer: it is copied at the flush.
type item struct {
	rec       message.Record
	ref       store.Ref
	logged    []byte      // its publish record's payload, until the group is done
	blob      *store.Blob // has its body, else nil; the item holds it
	ch        *Channel
	seq       uint64 // publish number to confirm, 0 for none
	ttlMillis int64
	bodyBytes uint32
	flags     queue.Flags
	priority  uint8
	mandatory bool
	nacked    bool
	kept      bool // see keep
}

// keep makes a message persistent that its publisher has not, because a quorum
// queue keeps everything. Other queues treat it as it came.
func (it *item) keep() {
	if it.flags&queue.Persistent == 0 {
		it.flags |= queue.Persistent
		it.kept = true
	}
}

func anyQuorum(queues []*Queue) bool {
	for _, q := range queues {
		if q.counted {
			return true
		}
	}
	return false
}

// route is a cached routing result of one connection.
type route struct {
	epoch   uint64
	queues  []*Queue // ascending id
	quorum  bool     // one of them is a quorum queue
	headers bool     // depends on the message's headers
	err     *wire.Error
	reply   *replyTarget
	run     uint64 // the run that group belongs to
	group   int
}

// maxRoutes and maxRoutedQueues bound a connection's route cache: its routes, and
// the queues in all of them. Beyond either the cache starts anew.
const (
	maxRoutes       = 4096
	maxRoutedQueues = 1 << 16
)

// Publish takes one message. It is applied at the next Flush, which has to come
// before rec's memory is reused. props must be rec's own, already scanned.
//
// If BeginUpload has taken the body, rec is without it.
func (ch *Channel) Publish(rec message.Record, props *wire.PropsView, mandatory bool) (err *wire.Error) {
	ch.conn.tally.publish(ch)
	if ch.tx != nil {
		err = ch.tx.publish(ch, rec, props, mandatory)
	} else {
		err = ch.publish(rec, props, mandatory)
	}
	if ch.upload != nil {
		ch.endUpload()
	}
	return err
}

func (ch *Channel) publish(rec message.Record, props *wire.PropsView, mandatory bool) *wire.Error {
	c := ch.conn
	r := c.cachedRoute(rec)
	it := newItem(ch, rec, props, mandatory)
	if r.err != nil {
		return r.err
	}
	r, err := ch.examine(&it, r, props)
	if err != nil {
		return err
	}
	if ch.upload != nil && (len(r.queues) > 0 || mandatory || r.reply != nil) {
		if err := ch.finishUpload(&it, len(r.queues) > 0); err != nil {
			return ch.refuseUpload(err)
		}
	}
	if r.reply != nil {
		return ch.publishReply(r.reply, &it)
	}
	if r.quorum {
		it.keep()
	}
	if len(r.queues) > 0 {
		// Before it has a number: what this flushes is confirmed without it.
		c.place(r)
	}
	if ch.confirming {
		it.seq = ch.confirms.Next()
		ch.joinRun()
	}
	if len(r.queues) == 0 {
		// It needs no room, but whoever publishes during an alarm is blocked.
		c.publishedInAlarm = c.publishedInAlarm || c.e.alarm.up.Load()
		ch.countUnroutable(mandatory)
		if mandatory {
			ch.returnMessage(&it)
		}
		return nil
	}
	if it.blob != nil {
		it.blob.Retain() // dropBlobs, once it is applied
	}
	c.addTo(r.group, it)
	return nil
}

// joinRun has the end of the running run look at the channel's confirms.
func (ch *Channel) joinRun() {
	if !ch.inRun {
		ch.inRun = true
		ch.conn.run.channels = append(ch.conn.run.channels, ch)
	}
}

func newItem(ch *Channel, rec message.Record, props *wire.PropsView, mandatory bool) item {
	it := item{rec: rec, ch: ch, ttlMillis: -1, bodyBytes: uint32(rec.BodyBytes()), mandatory: mandatory}
	if props.DeliveryMode() == 2 {
		it.flags = queue.Persistent
	}
	return it
}

// cachedRoute is the routing result for the record's exchange and key, without
// regard to its headers.
func (c *Conn) cachedRoute(rec message.Record) *route {
	key := rec.Route()
	r := c.routes[string(key)]
	if r != nil && r.epoch == c.vh.epoch.Load() {
		return r
	}
	if len(c.routes) >= maxRoutes || c.routedQueues >= maxRoutedQueues {
		c.Flush()
		clear(c.routes)
		c.routedQueues = 0
	}
	r = c.resolve(&c.w, string(rec.Exchange()), []string{string(rec.Key())}, nil)
	c.routes[string(key)] = r
	c.routedQueues += len(r.queues) // of a route that is replaced, counted twice
	return r
}

// resolve routes under the topology's lock.
func (c *Conn) resolve(w *worker, exchange string, keys []string, headers []byte) *route {
	vh := c.vh
	if exchange == "" {
		if t := c.e.replies.target(keys[0]); t != nil {
			return &route{epoch: vh.epoch.Load(), reply: t, headers: true}
		}
	}
	vh.mu.RLock()
	defer vh.mu.RUnlock()
	r := &route{epoch: vh.top.Epoch()}
	if _, r.err = vh.top.CheckPublish(exchange); r.err != nil {
		return r
	}
	var defs []*topology.Queue
	defs, r.err = vh.top.Route(exchange, keys, headers, &w.route)
	r.headers = w.route.UsedHeaders
	for _, d := range defs {
		r.queues = append(r.queues, d.Runtime.(*Queue))
	}
	sortQueues(r.queues)
	r.quorum = anyQuorum(r.queues)
	return r
}

// examine looks at the properties that change what happens to a message. It may
// return another route: one for the message's headers.
func (ch *Channel) examine(it *item, r *route, props *wire.PropsView) (*route, *wire.Error) {
	if props.Flags()&^(wire.FlagDeliveryMode|wire.FlagContentType) == 0 && !r.headers {
		return r, nil // nothing that matters here
	}
	if user, ok := props.UserID(); ok && string(user) != ch.conn.info.User {
		return nil, wire.ChannelError(wire.PreconditionFailed,
			"user_id property set to '%s' but authenticated user was '%s'", user, ch.conn.info.User)
	}
	if text, ok := props.Expiration(); ok {
		ttl, err := parseExpiration(text)
		if err != nil {
			return nil, err
		}
		it.ttlMillis = ttl
	}
	if p, ok := props.Priority(); ok {
		it.priority = p
	}
	if to, ok := props.ReplyTo(); ok && string(to) == directReplyTo {
		if err := ch.rewriteReplyTo(it); err != nil {
			return nil, err
		}
	}
	headers, ok := props.Headers()
	if !ok {
		return r, nil // r was resolved without headers
	}
	keys, hasBCC, err := message.ExtraKeys(nil, headers)
	if err != nil {
		return nil, err
	}
	if hasBCC {
		it.flags |= flagBCC
	}
	if len(keys) == 0 && !r.headers || r.reply != nil {
		return r, nil
	}
	keys = append([]string{string(it.rec.Key())}, keys...)
	r = ch.conn.resolve(&ch.conn.w, string(it.rec.Exchange()), keys, headers)
	return r, r.err
}

// erlangColumns is the line width at which RabbitMQ's texts break terms.
const erlangColumns = 80

// maxTTLMillis is ten years, RabbitMQ's bound.
const maxTTLMillis = 315360000000

// parseExpiration reads the expiration property: a decimal number of
// milliseconds, refused in RabbitMQ's words.
func parseExpiration(text []byte) (int64, *wire.Error) {
	s := string(text)
	end := 0
	if end < len(s) && (s[0] == '-' || s[0] == '+') {
		end++
	}
	digits := end
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	bad := func(why string) *wire.Error {
		return wire.ChannelError(wire.PreconditionFailed, "invalid expiration '%s': %s", s, why)
	}
	if end == digits {
		return 0, bad("no_integer")
	}
	if end < len(s) {
		return 0, bad("{leftover_string,\"" + s[end:] + "\"}")
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err == nil && n < 0:
		return 0, bad("{value_negative," + s + "}")
	case err != nil || n > maxTTLMillis:
		const column = len("invalid expiration '': ")
		if at := column + len(s); at+len("{value_too_large,}")+len(s) > erlangColumns {
			return 0, bad("{value_too_large,\n" + strings.Repeat(" ", at+1) + s + "}")
		}
		return 0, bad("{value_too_large," + s + "}")
	}
	return n, nil
}

// place gives a route a group in the running run; addTo has to follow. Two
// groups that share a queue must not stand side by side, or the order within
// that queue would break: a route with several queues flushes what is there
// first, unless it is the only one.
func (c *Conn) place(r *route) {
	run := &c.run
	if r.run != run.number || r.group >= len(run.groups) {
		if len(run.groups) > 0 && (len(r.queues) > 1 || len(run.groups[0].queues) > 1) {
			c.flushPublishes()
		}
		if len(run.groups) > 0 {
			for i := range run.groups { // another route to the same queue
				if run.groups[i].queues[0] == r.queues[0] {
					r.run, r.group = run.number, i
					return
				}
			}
		}
		n := len(run.groups)
		if n < cap(run.groups) {
			run.groups = run.groups[:n+1]
		} else {
			run.groups = append(run.groups, group{})
		}
		g := &run.groups[n]
		g.queues, g.items, g.bytes = r.queues, g.items[:0], 0
		r.run, r.group = run.number, n
	}
}

func (c *Conn) addTo(i int, it item) {
	g := &c.run.groups[i]
	g.items = append(g.items, it)
	g.bytes += len(it.rec)
}

// Flush applies everything gathered. The reader calls it at the end of each
// read, and before any method other than publish and ack.
func (c *Conn) Flush() {
	c.tally.settle(c.vh)
	run := &c.run
	if len(run.groups) == 0 && len(run.settling) == 0 && len(run.channels) == 0 {
		return
	}
	if c.e.disk != nil {
		c.waitRoom()
		if c.e.arena.OverBudget() {
			goOn := c.Out.waits()
			c.e.spill()
			goOn()
		}
	}
	c.flushPublishes()
	if len(run.settling) > 0 {
		w := &c.w
		w.begin(c.e.now())
		for i, s := range run.settling {
			s.applySettled(w)
			run.settling[i] = nil
		}
		run.settling = run.settling[:0]
		c.feedHungry(w)
		w.finish()
	}
}

// waitRoom waits while too much is waiting for the disk. Called before any lock is
// taken. An error means that the log has stopped: the engine is closing the
// connections then.
func (c *Conn) waitRoom() {
	if !c.e.disk.HasRoom() {
		goOn := c.Out.waits()
		_ = c.e.disk.WaitRoom()
		goOn()
	}
}

// Read is what a read of a connection's reader has brought.
type Read struct {
	// Published is how many messages, but for those that were flushed in its middle.
	Published int
	// Streaming: something was published, and the client waits for nothing of it but
	// confirms.
	Streaming bool
	// Unconfirmed is the most publishes for which a channel awaits confirms; 0
	// without any.
	Unconfirmed uint64
}

// EndRead is Flush at the end of a read. lone says that the client has sent little
// and nothing since: if nothing was unconfirmed before either, it waits for what it
// has just published, and nobody is served sooner than by bringing that to the disk
// right here. here says that this is best even if more is unconfirmed.
func (c *Conn) EndRead(lone, here bool) Read {
	read := Read{Streaming: len(c.run.groups) > 0 && len(c.run.settling) == 0}
	for i := range c.run.groups {
		read.Published += len(c.run.groups[i].items)
	}
	c.unconfirmed = 0
	if c.e.disk == nil {
		c.Flush()
		read.Unconfirmed = c.unconfirmed
		return read
	}
	c.w.late, c.pipelined = true, false
	c.Flush()
	c.w.late = false
	c.e.disk.Commit(lone && !c.pipelined || here && c.unconfirmed > 0)
	read.Unconfirmed = c.unconfirmed
	return read
}

// flushPublishes applies the groups and registers the confirms.
func (c *Conn) flushPublishes() {
	run := &c.run
	w := &c.w
	w.begin(c.e.now())
	if len(run.groups) > 0 {
		if c.e.alarm.up.Load() {
			c.publishedInAlarm = true
		}
		for i := range run.groups {
			g := &run.groups[i]
			w.enqueue(g.queues, g.items, g.bytes)
			dropBlobs(g.items)
			if len(g.items) > maxKeptItems {
				g.items = nil
			} else if g.bytes > maxKeptRecordBytes {
				clear(g.items) // or they keep the memory that the records came in
			}
		}
		run.groups = run.groups[:0]
	}
	run.number++
	pos := w.pos
	if len(run.channels) > 0 && c.e.holding.Load() {
		pos = max(pos, c.e.mark()) // what needs no disk waits too while confirms are held
	}
	for i, ch := range run.channels {
		ch.closeRun(pos)
		run.channels[i] = nil
	}
	run.channels = run.channels[:0]
	w.finish()
}

// maxKeptItems bounds the items a group keeps between runs.
const maxKeptItems = 8192

// maxKeptRecordBytes bounds the records that items of a past run still point
// to: more than a read buffer holds.
const maxKeptRecordBytes = 128 << 10

// returnMessage gives an unroutable mandatory message back (basic.return 312).
func (ch *Channel) returnMessage(it *item) {
	rec := it.rec
	if it.flags&flagBCC != 0 {
		if r, err := rec.WithoutBCC(nil); err == nil {
			rec = r
		}
	}
	o := ch.conn.Out
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	before := len(o.buf)
	o.buf = rec.AppendReturn(o.buf, ch.target, wire.NoRoute, "NO_ROUTE")
	o.held.Add(int64(len(o.buf) - before))
	if it.blob != nil {
		o.held.Add(o.stream(it.blob, uint64(it.bodyBytes), ch.target, ch.conn.e.logger))
	}
	o.wake()
}
