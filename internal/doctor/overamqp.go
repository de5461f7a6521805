package doctor

import (
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/internal/mgmtclient"
	"github.com/warrenmq/warren/internal/topoplan"
)

// LookOverAMQP asks for the length and the consumers of the queues that are named,
// which is all that AMQP shows of a queue. sample is how many messages to take from
// each and give back, see Sample; 0 for none.
func LookOverAMQP(conn *amqp.Connection, vhost string, o *Options, sample int) (*Look, error) {
	server := topoplan.ServerOf(conn.Properties)
	l := &Look{Overview: mgmtclient.Overview{Product: server.Product, Version: server.Version}}
	ch, err := conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("no channel: %w", err)
	}
	defer ch.Close() // an error has closed it already
	for _, name := range o.Queues {
		q, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
		if err != nil {
			if isMissing(err) {
				return nil, fmt.Errorf("there is no queue %s in virtual host %s", name, vhost)
			}
			return nil, fmt.Errorf("queue %s: %w", name, err)
		}
		l.Queues = append(l.Queues, mgmtclient.Queue{VHost: vhost, Name: name, Durable: true, Messages: q.Messages, Ready: q.Messages, Consumers: q.Consumers})
		if sample > 0 && q.Messages > 0 {
			if o.Samples == nil {
				o.Samples = map[Place][]mgmtclient.Message{}
			}
			if o.Samples[Place{vhost, name}], err = sampleOver(ch, name, sample); err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

// ExamineOverAMQP makes the checks for which AMQP shows enough; second may be nil.
// The delay network is compared if it is there; that declares again, as it should
// be, what exists.
func ExamineOverAMQP(conn *amqp.Connection, vhost string, first, second *Look, o Options) (*Report, error) {
	x := newExamination(first, second, o)
	for p := range x.queues {
		if strings.HasSuffix(p.Name, ".dlq") { // as the toolkit names them
			x.deadLetters[p] = true
		}
	}
	x.waiting()
	x.transient()
	x.ids()
	for _, n := range x.shared {
		if err := x.surveyed(conn, vhost, n); err != nil {
			return nil, err
		}
	}
	x.Examined = count(len(x.now.Queues), "queue") + " over AMQP"
	x.skip("consumers, publishers, arguments, policies, bindings and all other queues: AMQP does not show them, --api does")
	if second == nil {
		x.skip("%s: it takes two looks (--interval)", GrowingBacklog)
	}
	if !o.Sampled {
		x.skip("%s, %s: they take messages out of the queues for a moment and mark them redelivered, so they want --sample", NoMessageID, TransientMessages)
	}
	x.sort()
	return x.Report, nil
}

// surveyed compares a delay network over AMQP, unless it is not there at all.
func (x *examination) surveyed(conn *amqp.Connection, vhost string, n shared) error {
	found, err := topoplan.Survey(conn, &n.topology)
	if err != nil {
		return err
	}
	var notes []string
	there := false // a publisher declares no levels, only what is besides
	for _, f := range found {
		level := f.Kind == "queue" && x.levels[f.Name]
		there = there || level && f.State != topoplan.Missing
		if f.State == topoplan.Missing || f.State == topoplan.Different {
			notes = append(notes, strings.TrimSuffix(fmt.Sprintf("%s %s is %s: %s", f.Kind, f.Name, f.State, f.Note), ": "))
		}
	}
	if there && len(notes) > 0 {
		x.add(Finding{NetworkDamaged, Loss, vhost, "delay network of " + n.kind.String() + " queues", some(notes),
			"delayed messages and retries stop in a level, come too early, or go to the wrong place",
			"warren topology apply QUEUE (with the name of any work queue)"})
	}
	return nil
}
