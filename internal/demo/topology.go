package demo

import (
	"context"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
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
}

// queue declares a durable queue with the run's prefix and returns its name.
// Durable and not exclusive, since consumers come over other connections and some
// brokers refuse transient queues; x-expires stands in for the missing owner.
func (s *stage) queue(name string, args amqp.Table) (string, error) {
	full := s.names.prefix + name
	all := amqp.Table{"x-queue-type": "classic", "x-expires": unusedFor.Milliseconds()}
	for k, v := range args {
		all[k] = v
	}
	s.doing = "declaring queue " + full
	s.names.queues = append(s.names.queues, full)
	if _, err := s.control.ch.QueueDeclare(full, true, false, false, false, all); err != nil {
		return "", err
	}
	s.queues = append(s.queues, full)
	return full, nil
}

// exchange declares a durable auto-delete exchange with the run's prefix: it goes
// with its last binding.
func (s *stage) exchange(name, kind string) (string, error) {
	full := s.names.prefix + name
	s.doing = "declaring exchange " + full
	s.names.exchanges = append(s.names.exchanges, full)
	return full, s.control.ch.ExchangeDeclare(full, kind, true, true, false, false, nil)
}

func (s *stage) bind(queue, key, exchange string, args amqp.Table) error {
	s.doing = fmt.Sprintf("binding %s to %s", queue, exchange)
	return s.control.ch.QueueBind(queue, key, exchange, false, args)
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
