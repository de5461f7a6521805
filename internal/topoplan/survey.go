package topoplan

import (
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable"
)

// State is how something of the plan is at a broker.
type State string

// The states.
const (
	Same      State = "same"
	Missing   State = "missing"
	Different State = "different"
	Extra     State = "extra"   // there is a binding that the plan does not have
	Unseen    State = "unseen"  // AMQP does not show it
	Refused   State = "refused" // the user may not look
)

// Finding is the state of one thing.
type Finding struct {
	Kind  string `json:"kind"` // "exchange", "queue" or "binding"
	Name  string `json:"name"`
	State State  `json:"state"`
	Note  string `json:"note,omitempty"` // what differs, in words
}

// Differs says that the broker is not as planned here.
func (f Finding) Differs() bool { return f.State != Same && f.State != Unseen }

// Survey looks at exchanges and queues over AMQP. Whether something exists a
// passive declaration tells, and whether it has the planned properties an equal
// one: that changes nothing, because what is missing is not declared. (Should it be
// deleted between the two, it is made as planned.) The answer to a wrong one closes
// its channel, so there is one channel after the other. Bindings are not visible
// over AMQP. An error is that of the connection.
func Survey(conn *amqp.Connection, t *reliable.Topology) ([]Finding, error) {
	s := &surveyor{conn: conn}
	defer s.close()
	var found []Finding
	for _, e := range t.Exchanges {
		f, err := s.look("exchange", e.Name, func(ch *amqp.Channel, passive bool) error {
			if passive {
				return ch.ExchangeDeclarePassive(e.Name, e.Type, e.Durable, e.AutoDelete, e.Internal, false, nil)
			}
			return ch.ExchangeDeclare(e.Name, e.Type, e.Durable, e.AutoDelete, e.Internal, false, e.Arguments)
		})
		if err != nil {
			return nil, err
		}
		found = append(found, f)
	}
	for _, q := range t.Queues {
		f, err := s.look("queue", q.Name, func(ch *amqp.Channel, passive bool) error {
			declare := ch.QueueDeclare
			if passive {
				declare = ch.QueueDeclarePassive
			}
			_, err := declare(q.Name, q.Durable, q.AutoDelete, false, false, q.Arguments)
			return err
		})
		if err != nil {
			return nil, err
		}
		found = append(found, f)
	}
	for _, b := range t.Bindings {
		found = append(found, Finding{Kind: "binding", Name: bindingName(b), State: Unseen})
	}
	return found, nil
}

func bindingName(b reliable.BindingSpec) string {
	return fmt.Sprintf("%s -> %s %s, key %q", b.Source, b.DestinationType, b.Destination, b.RoutingKey)
}

type surveyor struct {
	conn *amqp.Connection
	ch   *amqp.Channel
}

func (s *surveyor) close() {
	if s.ch != nil {
		s.ch.Close() // the connection is closed next
	}
}

// look finds out about one thing: passively first, and then with all properties.
func (s *surveyor) look(kind, name string, declare func(ch *amqp.Channel, passive bool) error) (Finding, error) {
	f := Finding{Kind: kind, Name: name, State: Same}
	for _, passive := range []bool{true, false} {
		if s.ch == nil {
			ch, err := s.conn.Channel()
			if err != nil {
				return f, fmt.Errorf("cannot look at %s %s: %w", kind, name, err)
			}
			s.ch = ch
		}
		err := declare(s.ch, passive)
		if err == nil {
			continue
		}
		s.ch = nil
		var answer *amqp.Error
		if !errors.As(err, &answer) || !answer.Server {
			return f, fmt.Errorf("cannot look at %s %s: %w", kind, name, err)
		}
		switch answer.Code {
		case amqp.NotFound:
			f.State = Missing
		case amqp.AccessRefused:
			f.State, f.Note = Refused, "the user may not configure it, and so cannot see its properties over AMQP; --api shows them"
		default:
			f.State, f.Note = Different, strings.TrimPrefix(answer.Reason, "PRECONDITION_FAILED - ")
		}
		return f, nil
	}
	return f, nil
}
