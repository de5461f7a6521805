package parity

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// act performs a step on an open connection.
func (r *runner) act(st *step, c *conn) error {
	switch st.verb {
	case "send":
		if len(st.words) != 1 || spec().byName[st.words[0]] == nil {
			return fmt.Errorf("send needs a method")
		}
		return c.sendMethod(st.channel, st.words[0], st.named)
	case "publish":
		return c.publish(st.channel, st.named, bodyOf(st))
	case "header":
		class, size := number(st, "class", 60), number(st, "body-size", 0)
		payload, err := encodeHeader(uint16(class), size, st.named)
		c.send(appendFrame(nil, 2, st.channel, payload))
		return err
	case "body":
		c.send(appendFrame(nil, 3, st.channel, []byte(strings.Join(st.words, " "))))
		return nil
	case "wait":
		return r.wait(st, c)
	case "confirms":
		return r.confirms(st, c)
	case "sync":
		return r.sync(st, c)
	case "quiet":
		return r.quiet(st, c)
	case "count":
		return r.count(st, c)
	case "gone":
		return r.gone(st, c)
	case "reopen":
		if r.closed[fmt.Sprintf("%s%d", st.conn, st.channel)] {
			st.verb = "channel.open"
			return r.method(st, c)
		}
		return nil
	case "raw":
		c.send([]byte(strings.Join(st.words, "")))
		return nil
	case "frame":
		return r.frame(st, c)
	case "drop":
		return c.nc.Close()
	}
	return r.method(st, c)
}

// number is an option of a verb.
func number(st *step, name string, otherwise uint64) uint64 {
	if n, ok := st.named[name].(uint64); ok {
		return n
	}
	return otherwise
}

// bodyOf is body=TEXT, or body-bytes=N times the letter x.
func bodyOf(st *step) []byte {
	if n := number(st, "body-bytes", 0); n > 0 {
		return []byte(strings.Repeat("x", int(n)))
	}
	text, _ := st.named["body"].(string)
	return []byte(text)
}

// method sends a method and waits for its reply, if it has one and no-wait is not set.
func (r *runner) method(st *step, c *conn) error {
	m := spec().byName[st.verb]
	if m == nil {
		return fmt.Errorf("unknown verb %s", st.verb)
	}
	for name := range st.named {
		if !slices.ContainsFunc(m.fields, func(f fieldSpec) bool { return f.name == name }) {
			return fmt.Errorf("%s has no field %s", m.name, name)
		}
	}
	if err := c.sendMethod(st.channel, m.name, st.named); err != nil {
		return err
	}
	if m.name == "channel.open" {
		delete(r.closed, fmt.Sprintf("%s%d", st.conn, st.channel))
	}
	noWait, _ := st.named["no-wait"].(bool)
	if len(m.replies) == 0 || noWait {
		r.remember(st, nil)
		return nil
	}
	got, zero, ok := c.await(st.channel, m.replies, 1, replyLimit)
	r.record(st.conn, st.channel, got, zero, ok)
	r.remember(st, got)
	if m.name == "connection.close" { // RabbitMQ leaves the closing of the socket to the client
		_ = c.nc.Close()
		c.await(0, []string{"closed"}, 1, replyLimit)
	}
	return nil
}

// remember notes declared names for the clean-up.
func (r *runner) remember(st *step, got []event) {
	if passive, _ := st.named["passive"].(bool); passive {
		return
	}
	if x, ok := st.named["exchange"].(string); ok && st.verb == "exchange.declare" && strings.HasPrefix(x, r.mask.prefix) {
		r.exchanges[x] = true
	}
	if q, ok := st.named["queue"].(string); ok && st.verb == "queue.declare" && strings.HasPrefix(q, r.mask.prefix) {
		r.queues[q] = true
	}
	for _, e := range got {
		if e.name == "queue.declare-ok" && e.args["queue"] != "amq.rabbitmq.reply-to" {
			r.queues[e.args["queue"].(string)] = true
		}
	}
}

// wait is "wait METHOD [COUNT] [limit=MS]".
func (r *runner) wait(st *step, c *conn) error {
	if len(st.words) == 0 || len(st.words) > 2 {
		return fmt.Errorf("wait METHOD [COUNT]")
	}
	count := 1
	if len(st.words) == 2 {
		n, err := strconv.Atoi(st.words[1])
		if err != nil {
			return err
		}
		count = n
	}
	limit := time.Duration(number(st, "limit", uint64(replyLimit/time.Millisecond))) * time.Millisecond
	got, zero, ok := c.await(st.channel, st.words[:1], count, limit)
	r.record(st.conn, st.channel, got, zero, ok)
	return nil
}

// confirms is "confirms LAST [from=FIRST]": it waits until every tag up to LAST has been
// acked or nacked, and records each tag's outcome, not how they were batched. Anything else
// that arrives is recorded before; a tag confirmed twice is shown.
func (r *runner) confirms(st *step, c *conn) error {
	if len(st.words) != 1 {
		return fmt.Errorf("confirms LAST")
	}
	last, err := strconv.ParseUint(st.words[0], 10, 32)
	if err != nil {
		return err
	}
	first := number(st, "from", 1)
	outcome := map[uint64]string{}
	for n := first; n <= last; {
		got, zero, ok := c.await(st.channel, []string{"basic.ack", "basic.nack"}, 1, replyLimit)
		if len(got) > 0 && strings.HasSuffix(got[len(got)-1].name, "ack") {
			e := got[len(got)-1]
			r.record(st.conn, st.channel, got[:len(got)-1], nil, true)
			low, tag := e.args["delivery-tag"].(uint64), e.args["delivery-tag"].(uint64)
			if multiple, _ := e.args["multiple"].(bool); multiple {
				low = n
			}
			for t := low; t <= tag; t++ {
				if multiple := low != tag; !multiple || outcome[t] == "" {
					outcome[t] += " " + strings.TrimPrefix(e.name, "basic.")
				}
			}
		} else {
			r.record(st.conn, st.channel, got, zero, ok)
			break
		}
		for outcome[n] != "" {
			n++
		}
	}
	for n := first; n <= last; n++ {
		fmt.Fprintf(&r.out, "< %s%d confirm %d%s\n", st.conn, st.channel, n, outcome[n])
	}
	return nil
}

// sync makes a round trip on the channel, so that what was sent before has been looked at.
func (r *runner) sync(st *step, c *conn) error {
	if err := c.sendMethod(st.channel, "channel.flow", args{"active": true}); err != nil {
		return err
	}
	got, zero, ok := c.await(st.channel, []string{"channel.flow-ok"}, 1, replyLimit)
	got = slices.DeleteFunc(got, func(e event) bool { return e.name == "channel.flow-ok" })
	r.record(st.conn, st.channel, got, zero, ok)
	return nil
}

// quiet is "quiet DURATION [sorted]": whatever comes on the channel within that time is
// recorded; sorted by text where nobody promises an order.
func (r *runner) quiet(st *step, c *conn) error {
	if len(st.words) == 0 || len(st.words) > 2 || len(st.words) == 2 && st.words[1] != "sorted" {
		return fmt.Errorf("quiet DURATION [sorted]")
	}
	d, err := time.ParseDuration(st.words[0])
	if err != nil {
		return err
	}
	got, zero, _ := c.await(st.channel, nil, 1<<30, d)
	if len(st.words) == 2 {
		slices.SortStableFunc(got, func(a, b event) int { return strings.Compare(a.format(r.mask), b.format(r.mask)) })
	}
	r.record(st.conn, st.channel, got, zero, true)
	return nil
}

// count is "count QUEUE messages=N consumers=N": it asks until both given numbers are there.
func (r *runner) count(st *step, c *conn) error {
	if len(st.words) != 1 {
		return fmt.Errorf("count QUEUE messages=N consumers=N")
	}
	shown := ""
	r.poll(func() bool {
		e := r.request(c, "queue.declare", args{"queue": st.words[0], "passive": true})
		if e.name != "queue.declare-ok" {
			shown = e.format(r.mask)
			return true
		}
		messages, consumers := e.args["message-count"].(uint64), e.args["consumer-count"].(uint64)
		shown = fmt.Sprintf("count messages=%d consumers=%d", messages, consumers)
		return messages == number(st, "messages", messages) && consumers == number(st, "consumers", consumers)
	})
	fmt.Fprintf(&r.out, "< %s%d %s\n", st.conn, st.channel, shown)
	return nil
}

// gone is "gone queue=Q" or "gone exchange=X": it asks until the thing does not exist.
func (r *runner) gone(st *step, c *conn) error {
	method := "queue.declare"
	a := args{"passive": true, "queue": st.named["queue"]}
	if x, ok := st.named["exchange"]; ok {
		method, a = "exchange.declare", args{"passive": true, "exchange": x, "type": "direct"}
	}
	shown := ""
	r.poll(func() bool {
		e := r.request(c, method, a)
		shown = e.format(r.mask)
		// Locked means still there: the broker has not noticed yet that the queue's
		// own connection has gone.
		return e.name != method+"-ok" && !strings.Contains(shown, "reply-code=405")
	})
	fmt.Fprintf(&r.out, "< %s%d %s\n", st.conn, st.channel, shown)
	return nil
}

// poll asks every few milliseconds until done or the limit is over.
func (r *runner) poll(done func() bool) {
	deadline := time.Now().Add(replyLimit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() && time.Now().Before(deadline) {
		<-tick.C
	}
}

// frame is "frame TYPE CHANNEL PAYLOAD [end=N] [size=N] [fill=N]": one frame as given; size
// overrides the announced payload size, fill appends that many zero octets.
func (r *runner) frame(st *step, c *conn) error {
	if len(st.words) < 2 {
		return fmt.Errorf("frame TYPE CHANNEL PAYLOAD")
	}
	kind, err := strconv.ParseUint(st.words[0], 0, 8)
	if err != nil {
		return err
	}
	channel, err := strconv.ParseUint(st.words[1], 0, 16)
	if err != nil {
		return err
	}
	payload := append([]byte(strings.Join(st.words[2:], "")), make([]byte, number(st, "fill", 0))...)
	b := appendFrame(nil, byte(kind), uint16(channel), payload)
	size := number(st, "size", uint64(len(payload)))
	b[3], b[4], b[5], b[6] = byte(size>>24), byte(size>>16), byte(size>>8), byte(size)
	b[len(b)-1] = byte(number(st, "end", 0xCE))
	c.send(b)
	return nil
}
