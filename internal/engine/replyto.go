package engine

import (
	"strings"
	"sync"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/wire"
)

// directReplyTo is the pseudo queue of RabbitMQ's direct reply-to: consuming
// from it makes the reply_to of this channel's requests an address that leads
// straight back to the channel, without a queue, at most once.
const directReplyTo = "amq.rabbitmq.reply-to"

// replyConsumer is a channel's consumer of direct replies.
type replyConsumer struct {
	tag   string
	token string
}

// replyTarget is where a direct reply goes.
type replyTarget struct{ ch *Channel }

// replies finds the channel that a reply address names.
type replies struct {
	mu      sync.RWMutex
	byToken map[string]*Channel
}

// target returns the target for a routing key, nil if it is no reply address. A
// target without a channel is an address where nobody is (any more): what is
// sent there counts as routed and is lost (RabbitMQ 4.2 and newer).
func (r *replies) target(key string) *replyTarget {
	token, ok := strings.CutPrefix(key, directReplyTo+".")
	if !ok || len(token) != len(ServerName("")) {
		return nil // no address that was ever given out
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return &replyTarget{r.byToken[token]}
}

func (ch *Channel) consumeReply(r Consume) *wire.Error {
	switch {
	case !r.NoAck:
		return wire.ChannelError(wire.PreconditionFailed, "reply consumer cannot acknowledge")
	case ch.reply != nil:
		return wire.ChannelError(wire.PreconditionFailed, "reply consumer already set")
	}
	if r.Tag == "" {
		r.Tag = ServerName("amq.ctag-")
	}
	e := ch.conn.e
	o := ch.conn.Out
	o.mu.Lock() // publishReply reads ch.reply under it
	ch.reply = &replyConsumer{tag: r.Tag, token: ServerName("")}
	o.mu.Unlock()
	e.replies.mu.Lock()
	e.replies.byToken[ch.reply.token] = ch
	e.replies.mu.Unlock()
	if r.OnOk != nil {
		r.OnOk(r.Tag)
	}
	return nil
}

func (ch *Channel) cancelReply(tag string) bool {
	if ch.reply == nil || ch.reply.tag != tag {
		return false
	}
	ch.dropReply()
	return true
}

func (ch *Channel) dropReply() {
	if ch.reply == nil {
		return
	}
	e := ch.conn.e
	e.replies.mu.Lock()
	delete(e.replies.byToken, ch.reply.token)
	e.replies.mu.Unlock()
	o := ch.conn.Out
	o.mu.Lock()
	ch.reply = nil
	o.mu.Unlock()
}

// rewriteReplyTo replaces the pseudo queue's name in a request by this
// channel's address.
func (ch *Channel) rewriteReplyTo(it *item) *wire.Error {
	if ch.reply == nil {
		return wire.ChannelError(wire.PreconditionFailed, "fast reply consumer does not exist")
	}
	p, err := it.rec.Properties()
	if err != nil {
		return wire.ConnectionError(wire.InternalError, "")
	}
	p.ReplyTo = directReplyTo + "." + ch.reply.token
	it.rec = it.rec.Rewrite(nil, string(it.rec.Exchange()), string(it.rec.Key()), &p)
	return nil
}

// publishReply hands a reply to its channel. It is lost if the channel has gone
// or its client does not read (at most once); the publisher's confirm does not
// depend on it.
func (ch *Channel) publishReply(t *replyTarget, it *item) *wire.Error {
	if ch.confirming {
		ch.confirms.Next()
		ch.joinRun()
	}
	to := t.ch
	if to == nil {
		return nil
	}
	o := to.conn.Out
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || to.closed || to.reply == nil || o.held.Load() > OutputHardCapBytes {
		return nil
	}
	before := len(o.buf)
	rec := it.rec
	if it.flags&flagBCC != 0 {
		if r, err := rec.WithoutBCC(nil); err == nil {
			rec = r
		}
	}
	o.buf = message.Record(rec).AppendDeliver(o.buf, to.target, to.reply.tag, to.unacked.Skip(), false)
	o.held.Add(int64(len(o.buf) - before))
	if it.blob != nil {
		o.held.Add(o.stream(it.blob, uint64(it.bodyBytes), to.target, to.conn.e.logger))
	}
	o.wake()
	return nil
}

// probeReply answers a declare of a reply address: is the requester still there?
// The pseudo queue itself is always there.
func (c *Conn) probeReply(name string) (Declared, *wire.Error) {
	if t := c.e.replies.target(name); name != directReplyTo && (t == nil || t.ch == nil) {
		return Declared{}, c.vh.top.NoQueue(name)
	}
	return Declared{Name: name, Consumers: 1}, nil
}
