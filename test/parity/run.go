package parity

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// replyLimit is how long a step waits for what it expects before it gives up.
const replyLimit = 5 * time.Second

// hiddenChannel is used by count, gone and the clean-up, so that they leave a script's own
// channels alone.
const hiddenChannel = 999

// runner plays one script against one broker.
type runner struct {
	target    *url.URL
	conns     map[string]*conn
	order     []string // connection names as they appeared
	vars      map[string]string
	mask      *masker
	out       strings.Builder
	last      []event         // what the latest step received, for "=>"
	closed    map[string]bool // channels ("a1") whose close by the server has been seen
	queues    map[string]bool
	exchanges map[string]bool
}

// Run plays a script against the broker at amqpURL and returns the transcript. The error
// is about the script itself; whatever the broker does is in the transcript.
func Run(script, amqpURL string) (string, error) {
	target, err := url.Parse(amqpURL)
	if err != nil {
		return "", err
	}
	if target.Port() == "" {
		target.Host += ":5672"
	}
	r := &runner{target: target, conns: map[string]*conn{}, vars: map[string]string{}, mask: newMasker(),
		closed: map[string]bool{}, queues: map[string]bool{}, exchanges: map[string]bool{}}
	defer r.cleanUp()
	for i, line := range strings.Split(script, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := r.step(line); err != nil {
			return "", fmt.Errorf("line %d: %s: %w", i+1, line, err)
		}
	}
	r.finish()
	return r.out.String(), nil
}

func (r *runner) subst(s string) string {
	s = strings.ReplaceAll(s, "~", r.mask.prefix)
	for name, v := range r.vars {
		s = strings.ReplaceAll(s, name, v)
	}
	return s
}

func (r *runner) step(line string) error {
	st, err := parseStep(line, r.subst)
	if err != nil {
		return err
	}
	fmt.Fprintf(&r.out, "> %s\n", line)
	r.last = nil
	if st.verb == "connect" || st.verb == "tcp" || st.verb == "start" {
		err = r.open(st)
	} else {
		c := r.conns[st.conn]
		if c == nil {
			return fmt.Errorf("connection %s is not open", st.conn)
		}
		err = r.act(st, c)
	}
	if err != nil {
		return err
	}
	return r.save(st)
}

// save keeps a field of the last event received under a variable name.
func (r *runner) save(st *step) error {
	if st.save == "" {
		return nil
	}
	for _, e := range slices.Backward(r.last) {
		for _, a := range []args{e.args, e.props} {
			if s, ok := a[st.field].(string); ok {
				r.vars[st.save] = s
				return nil
			}
		}
	}
	r.vars[st.save] = "" // the transcript shows what is missing
	return nil
}

// open is connect, tcp and start.
func (r *runner) open(st *step) error {
	c, err := dial(r.target.Host)
	if err != nil {
		return err
	}
	if old := r.conns[st.conn]; old != nil {
		_ = old.nc.Close()
	} else {
		r.order = append(r.order, st.conn)
	}
	r.conns[st.conn] = c
	switch st.verb {
	case "start":
		c.send([]byte("AMQP\x00\x00\x09\x01"))
		c.await(0, []string{"connection.start"}, 1, replyLimit)
	case "connect":
		return r.handshake(st, c)
	}
	return nil
}

// handshake logs in with the options user, password, vhost, mechanism, response,
// capabilities (comma-separated, "none" for none), channel-max, frame-max, heartbeat.
// Only failures are recorded.
func (r *runner) handshake(st *step, c *conn) error {
	option := func(name, otherwise string) string {
		if s, ok := st.named[name].(string); ok {
			return s
		}
		return otherwise
	}
	number := func(name string, otherwise uint64) uint64 {
		if n, ok := st.named[name].(uint64); ok {
			return n
		}
		return otherwise
	}
	password, _ := r.target.User.Password()
	user := option("user", r.target.User.Username())
	start := args{"client-properties": clientProperties(option("capabilities", "all")),
		"mechanism": option("mechanism", "PLAIN"), "locale": "en_US",
		"response": option("response", "\x00"+user+"\x00"+option("password", password))}
	tune := args{"channel-max": number("channel-max", 2047), "frame-max": number("frame-max", 131072),
		"heartbeat": number("heartbeat", 0)}
	c.frameMax = int(tune["frame-max"].(uint64))
	c.send([]byte("AMQP\x00\x00\x09\x01"))
	exchanges := []struct {
		send   string
		fields args
		expect string
	}{
		{"", nil, "connection.start"},
		{"connection.start-ok", start, "connection.tune"},
		{"connection.tune-ok", tune, ""},
		{"connection.open", args{"virtual-host": option("vhost", "/")}, "connection.open-ok"},
	}
	for _, x := range exchanges {
		if x.send != "" {
			if err := c.sendMethod(0, x.send, x.fields); err != nil {
				return err
			}
		}
		if x.expect == "" {
			continue
		}
		got, zero, ok := c.await(0, []string{x.expect}, 1, replyLimit)
		if got = append(got, zero...); !ok || len(got) != 1 || got[0].name != x.expect {
			r.record(st.conn, 0, got, nil, ok)
			return nil
		}
	}
	return nil
}

// clientProperties announces the named capabilities, or all that clients usually have.
func clientProperties(names string) table {
	switch names {
	case "none":
		return table{}
	case "all":
		names = "publisher_confirms,exchange_exchange_bindings,basic.nack,consumer_cancel_notify," +
			"connection.blocked,authentication_failure_close"
	}
	capabilities := table{}
	for n := range strings.SplitSeq(names, ",") {
		capabilities = append(capabilities, entry{n, value{'t', true}})
	}
	return table{{"capabilities", value{'F', capabilities}}}
}

// record writes received events down.
func (r *runner) record(name string, channel uint16, got, zero []event, ok bool) {
	r.last = append(r.last, got...)
	for _, e := range got {
		fmt.Fprintf(&r.out, "< %s%d %s\n", name, channel, e.format(r.mask))
		if e.name == "channel.close" {
			r.closed[fmt.Sprintf("%s%d", name, channel)] = true
		}
	}
	for _, e := range zero {
		fmt.Fprintf(&r.out, "< %s0 %s\n", name, e.format(r.mask))
	}
	if !ok {
		fmt.Fprintf(&r.out, "< %s%d TIMEOUT\n", name, channel)
	}
}

// finish closes what is open and records what nobody waited for.
func (r *runner) finish() {
	fmt.Fprintln(&r.out, "> end")
	for _, name := range r.order {
		c := r.conns[name]
		if dead, _ := c.state(); !dead {
			_ = c.sendMethod(0, "connection.close", args{"reply-code": uint64(200), "reply-text": "end"})
			c.await(0, []string{"connection.close-ok"}, 1, time.Second)
		}
		for ch := range uint16(hiddenChannel) {
			rest, _ := c.take(ch, func(event) bool { return false })
			rest = slices.DeleteFunc(rest, func(e event) bool { return ch == 0 && e.name == "closed" })
			r.record(name, ch, rest, nil, true)
		}
		_ = c.nc.Close()
	}
}

// cleanUp deletes every queue and exchange the script declared.
func (r *runner) cleanUp() {
	for _, c := range r.conns {
		_ = c.nc.Close()
	}
	if len(r.queues)+len(r.exchanges) == 0 {
		return
	}
	c, err := dial(r.target.Host)
	if err != nil {
		return
	}
	defer func() { _ = c.nc.Close() }()
	if r.handshake(&step{conn: "z", named: args{}}, c) != nil {
		return
	}
	for q := range r.queues {
		r.request(c, "queue.delete", args{"queue": q})
	}
	for x := range r.exchanges {
		r.request(c, "exchange.delete", args{"exchange": x})
	}
}

// request makes a call on the hidden channel, opening it if needed, and returns what came
// back last: the reply, or a close.
func (r *runner) request(c *conn, name string, a args) event {
	if !c.hiddenOpen {
		_ = c.sendMethod(hiddenChannel, "channel.open", nil)
		if _, _, ok := c.await(hiddenChannel, []string{"channel.open-ok"}, 1, replyLimit); !ok {
			return event{name: "TIMEOUT"}
		}
		c.hiddenOpen = true
	}
	_ = c.sendMethod(hiddenChannel, name, a)
	got, zero, ok := c.await(hiddenChannel, spec().byName[name].replies, 1, replyLimit)
	got = append(got, zero...)
	if !ok || len(got) == 0 {
		return event{name: "TIMEOUT"}
	}
	e := got[len(got)-1]
	c.hiddenOpen = e.name != "channel.close"
	return e
}
