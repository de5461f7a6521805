package demo

import (
	"context"
	"fmt"
	"maps"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable"
)

// unusedFor is after how long without use a queue deletes itself: the safety net
// for a run that could not clean up. It exceeds the longest time that a queue
// without a consumer has a purpose.
const unusedFor = time.Minute

// names remembers what the run has declared, or was about to.
type names struct {
	prefix    string
	queues    []string
	exchanges []string
	known     map[string]bool // what all work queues share is declared once
}

// queue declares a durable queue with the run's prefix and returns its name.
func (s *stage) queue(name string) (string, error) {
	full := s.names.prefix + name
	s.queues = append(s.queues, full)
	return full, s.declareQueue(full, amqp.Table{"x-queue-type": "classic"})
}

// declareQueue makes a queue that is durable and not exclusive, since consumers come
// over other connections and some brokers refuse transient queues; x-expires stands
// in for the missing owner.
func (s *stage) declareQueue(full string, args amqp.Table) error {
	args = maps.Clone(args)
	args["x-expires"] = unusedFor.Milliseconds()
	s.doing = "declaring queue " + full
	s.names.queues = append(s.names.queues, full)
	_, err := s.control.ch.QueueDeclare(full, true, false, false, false, args)
	return err
}

// exchange declares an exchange with the run's prefix.
func (s *stage) exchange(name, kind string) (string, error) {
	full := s.names.prefix + name
	return full, s.declareExchange(full, kind, nil)
}

// declareExchange makes an exchange that is durable and auto-delete: it goes with its
// last binding.
func (s *stage) declareExchange(full, kind string, args amqp.Table) error {
	s.doing = "declaring exchange " + full
	s.names.exchanges = append(s.names.exchanges, full)
	return s.control.ch.ExchangeDeclare(full, kind, true, true, false, false, args)
}

// workQueue declares a queue as package reliable wants it, with its dead-letter
// queue and the delay network of the run.
func (s *stage) workQueue(p *program, name string, bind ...reliable.Bind) (reliable.Queue, error) {
	q := reliable.Queue{Name: s.names.prefix + name, Bind: bind}
	t, err := p.client.Topology(q)
	if err != nil {
		return q, err
	}
	s.queues = append(s.queues, q.Name, q.DeadLetterQueue())
	return q, s.declare(t)
}

// declare declares what is not there yet.
func (s *stage) declare(t reliable.Topology) error {
	for _, e := range t.Exchanges {
		if s.names.first("exchange " + e.Name) {
			if err := s.declareExchange(e.Name, e.Type, e.Arguments); err != nil {
				return err
			}
		}
	}
	for _, q := range t.Queues {
		if s.names.first("queue " + q.Name) {
			if err := s.declareQueue(q.Name, q.Arguments); err != nil {
				return err
			}
		}
	}
	for _, b := range t.Bindings {
		if !s.names.first(fmt.Sprintf("binding %s %s %s", b.Source, b.Destination, b.RoutingKey)) {
			continue
		}
		bind := s.bind
		if b.DestinationType == "exchange" {
			bind = s.bindExchange
		}
		if err := bind(b.Destination, b.RoutingKey, b.Source, b.Arguments); err != nil {
			return err
		}
	}
	return nil
}

// first remembers a thing, and says whether it is new.
func (n *names) first(thing string) bool {
	known := n.known[thing]
	n.known[thing] = true
	return !known
}

func (s *stage) bind(queue, key, exchange string, args amqp.Table) error {
	s.doing = fmt.Sprintf("binding %s to %s", queue, exchange)
	return s.control.ch.QueueBind(queue, key, exchange, false, args)
}

func (s *stage) bindExchange(exchange, key, source string, args amqp.Table) error {
	s.doing = fmt.Sprintf("binding %s to %s", exchange, source)
	return s.control.ch.ExchangeBind(exchange, key, source, false, args)
}

// cleanUp deletes everything the run declared, over a fresh connection, as
// whatever ended the run may have taken the others. It does not share the run's
// context, which may have ended.
func (l *lesson) cleanUp(parent context.Context) error {
	if len(l.names.queues)+len(l.names.exchanges) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(parent), l.limits.cleanup)
	defer cancel()
	if err := l.deleteAll(ctx); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer within %v", l.limits.cleanup)
		}
		return fmt.Errorf("clean up (queues named %s* delete themselves after %v): %w", l.names.prefix, unusedFor, plain(err))
	}
	l.tell.cleaned(l.report.QueuesDeleted, l.report.ExchangesDeleted)
	return nil
}

// deleteAll deletes queues first: their bindings go with them, so that most
// exchanges are gone already, and deleting what is missing succeeds.
func (l *lesson) deleteAll(ctx context.Context) error {
	fresh, err := l.dial.open(ctx)
	if err != nil {
		return err
	}
	defer fresh.close()
	for _, q := range l.names.queues {
		if _, err := fresh.ch.QueueDelete(q, false, false, false); err != nil {
			return fmt.Errorf("delete queue %s: %w", q, err)
		}
		l.report.QueuesDeleted++
	}
	for _, x := range l.names.exchanges {
		if err := fresh.ch.ExchangeDelete(x, false, false); err != nil {
			return fmt.Errorf("delete exchange %s: %w", x, err)
		}
		l.report.ExchangesDeleted++
	}
	return nil
}
