package topology

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/wire"
)

// TestScripts runs testdata/*.txt, which read as this package's specification.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			steps, err := readScript(path)
			if err != nil {
				t.Fatal(err)
			}
			m := newMachine()
			for _, s := range steps {
				if s.want == "" && s.cmd != "fresh" {
					t.Fatalf("%s:%d: no answer given", path, s.line)
				}
				if got := m.run(s); got != s.want {
					t.Errorf("%s:%d: %s %q %v\n got: %s\nwant: %s", path, s.line, s.cmd, s.opts, s.args, got, s.want)
				}
			}
		})
	}
}

// machine runs steps on a VHost.
type machine struct {
	v       *VHost
	nextID  uint64
	scratch RouteScratch
}

func newMachine() *machine { return &machine{v: NewVHost("/")} }

func (m *machine) run(s step) string {
	switch s.cmd {
	case "fresh":
		*m = *newMachine()
		return ""
	case "declare-queue", "delete-queue":
		return m.queue(s)
	case "declare-exchange", "delete-exchange":
		return m.exchange(s)
	case "bind-queue", "unbind-queue", "bind-exchange", "unbind-exchange":
		return m.binding(s)
	case "publish":
		return m.publish(s)
	case "close-connection":
		var names []string
		for _, q := range m.v.OwnedQueues(s.conn) {
			names = append(names, q.Name)
			m.v.DeleteQueue(q.Name)
		}
		return strings.Join(append([]string{"ok"}, names...), " ")
	case "queue", "bindings", "exchanges":
		return m.show(s)
	}
	return "unknown command " + s.cmd
}

func (m *machine) queue(s step) string {
	if s.cmd == "delete-queue" {
		unused, empty := s.flag("if-unused"), s.flag("if-empty")
		if q := m.v.Queue(CleanName(s.opt(0))); q != nil {
			if err := m.v.CheckDelete(q, s.conn, unused, empty, 0, 0); err != nil {
				return answer(err)
			}
		}
		_, gone := m.v.DeleteQueue(s.opt(0))
		return answer(nil) + goneText(gone)
	}
	m.nextID++
	r := DeclareQueue{
		Passive: s.flag("passive"), Durable: s.flag("durable"), Exclusive: s.flag("exclusive"),
		AutoDelete: s.flag("autodelete"), Args: s.args, Owner: s.conn,
		ID: m.nextID, GeneratedName: fmt.Sprintf("amq.gen-%d", m.nextID),
	}
	r.Name = s.opt(0)
	q, created, err := m.v.DeclareQueue(r)
	if err != nil {
		return answer(err)
	}
	name := ""
	if r.Name == "" {
		name = " " + q.Name
	}
	return createdText(created) + name
}

func (m *machine) exchange(s step) string {
	if s.cmd == "delete-exchange" {
		unused := s.flag("if-unused")
		gone, err := m.v.DeleteExchange(s.opt(0), unused)
		if err == nil && len(gone) > 0 {
			gone = gone[1:]
		}
		return answer(err) + goneText(gone)
	}
	r := DeclareExchange{
		Passive: s.flag("passive"), Durable: s.flag("durable"), AutoDelete: s.flag("autodelete"),
		Internal: s.flag("internal"), Args: s.args,
	}
	r.Name, r.Type = s.opt(0), s.opt(1)
	_, created, err := m.v.DeclareExchange(r)
	if err != nil {
		return answer(err)
	}
	return createdText(created)
}

func (m *machine) binding(s step) string {
	to, from, key := s.opt(0), s.opt(1), s.opt(2)
	var (
		did  bool
		gone []*Exchange
		err  *wire.Error
	)
	switch s.cmd {
	case "bind-queue":
		did, err = m.v.BindQueue(to, from, key, s.args, s.conn)
	case "unbind-queue":
		did, gone, err = m.v.UnbindQueue(to, from, key, s.args, s.conn)
	case "bind-exchange":
		did, err = m.v.BindExchange(to, from, key, s.args)
	default:
		did, gone, err = m.v.UnbindExchange(to, from, key, s.args)
	}
	switch {
	case err != nil:
		return answer(err)
	case !did:
		return "ok nothing"
	}
	return "ok" + goneText(gone)
}

// publish X KEY... [header=value ...]: the queues, or nowhere.
func (m *machine) publish(s step) string {
	if _, err := m.v.CheckPublish(s.opt(0)); err != nil {
		return answer(err)
	}
	qs, err := m.v.Route(s.opt(0), s.opts[1:], []byte(exchange.EncodeArgs(s.args)), &m.scratch)
	if err != nil {
		return answer(err)
	}
	names := make([]string, 0, len(qs))
	for _, q := range qs {
		names = append(names, q.Name)
	}
	if len(names) == 0 {
		return "nowhere"
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func (m *machine) show(s step) string {
	var parts []string
	switch s.cmd {
	case "exchanges":
		for _, x := range m.v.Exchanges() {
			parts = append(parts, fmt.Sprintf("%q:%s", x.Name, x.Type))
		}
	case "bindings":
		for _, b := range m.v.Bindings() {
			parts = append(parts, fmt.Sprintf("%s-[%s]->%s:%s", b.Source, b.Key, b.Kind, b.Dest))
		}
	case "queue":
		q, err := m.v.FindQueue(s.opt(0))
		if err != nil {
			return answer(err)
		}
		return describeConfig(q)
	}
	return strings.Join(parts, " ")
}

func describeConfig(q *Queue) string {
	c := q.Config
	parts := []string{c.Type.String()}
	for _, p := range []struct {
		name string
		on   bool
	}{{"durable", q.Durable}, {"exclusive", q.Exclusive}, {"autodelete", q.AutoDelete}, {"sac", c.SingleActiveConsumer}, {"at-least-once", c.AtLeastOnceDLX}} {
		if p.on {
			parts = append(parts, p.name)
		}
	}
	for _, p := range []struct {
		name string
		n    int64
	}{{"ttl", c.MessageTTLMs}, {"expires", c.ExpiresMs}, {"max-length", c.MaxLength}, {"max-bytes", c.MaxLengthBytes},
		{"max-priority", int64(c.MaxPriority)}, {"delivery-limit", int64(c.DeliveryLimit)}} {
		if p.n != None {
			parts = append(parts, fmt.Sprintf("%s=%d", p.name, p.n))
		}
	}
	parts = append(parts, c.Overflow.String())
	if c.HasDLX {
		parts = append(parts, "dlx="+c.DLX)
	}
	if c.HasDLRoutingKey {
		parts = append(parts, "dlrk="+c.DLRoutingKey)
	}
	return strings.Join(parts, " ")
}

func createdText(created bool) string {
	if created {
		return "ok created"
	}
	return "ok exists"
}

func goneText(gone []*Exchange) string {
	if len(gone) == 0 {
		return ""
	}
	names := make([]string, len(gone))
	for i, x := range gone {
		names[i] = x.Name
	}
	slices.Sort(names)
	return " gone " + strings.Join(names, " ")
}

func answer(err *wire.Error) string {
	if err == nil {
		return "ok"
	}
	scope := "channel"
	if err.Scope == wire.ScopeConnection {
		scope = "connection"
	}
	return fmt.Sprintf("%d %s %s", err.Code, scope, strings.ReplaceAll(err.Text, "\n", "\\n"))
}
