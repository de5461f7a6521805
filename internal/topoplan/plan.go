package topoplan

import (
	"encoding/json"
	"fmt"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable"
)

// Server is a broker as it presents itself.
type Server struct {
	Product string `json:"product"` // "RabbitMQ", "WarrenMQ"
	Version string `json:"version"`
}

func (s Server) String() string { return s.Product + " " + s.Version }

// ServerOf reads the properties that a broker sends when a client connects.
func ServerOf(properties amqp.Table) Server {
	var s Server
	s.Product, _ = properties["product"].(string)
	s.Version, _ = properties["version"].(string)
	return s
}

// Plan is what the work queues need at a server, and the policy of their retries.
type Plan struct {
	Server   Server
	Type     reliable.QueueType // Quorum or Classic
	Queues   []reliable.Queue
	Policy   Policy
	Topology reliable.Topology
}

// New plans. A queue's Type is replaced by t.
func New(s Server, t reliable.QueueType, queues []reliable.Queue, p Policy) (*Plan, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	plan := &Plan{Server: s, Type: t, Queues: slices.Clone(queues), Policy: p}
	for i := range plan.Queues {
		plan.Queues[i].Type = t
	}
	var err error
	if plan.Topology, err = reliable.TopologyFor(s.Product, s.Version, t, plan.Queues...); err != nil {
		return nil, err
	}
	if t == reliable.Auto {
		plan.Type = typeOf(&plan.Topology)
	}
	return plan, nil
}

// typeOf is the type that Auto has become.
func typeOf(t *reliable.Topology) reliable.QueueType {
	if len(t.Queues) > 0 && t.Queues[0].Arguments["x-queue-type"] == "quorum" {
		return reliable.Quorum
	}
	return reliable.Classic
}

// Definitions is the plan as a definitions file of RabbitMQ for one virtual host.
// It names no users and no permissions: importing it leaves those alone.
func (p *Plan) Definitions(vhost string) ([]byte, error) {
	type exchange struct {
		VHost string `json:"vhost"`
		reliable.ExchangeSpec
	}
	type queue struct {
		VHost string `json:"vhost"`
		reliable.QueueSpec
	}
	type binding struct {
		VHost string `json:"vhost"`
		reliable.BindingSpec
	}
	file := struct {
		VHosts []struct {
			Name string `json:"name"`
		} `json:"vhosts"`
		Exchanges []exchange `json:"exchanges"`
		Queues    []queue    `json:"queues"`
		Bindings  []binding  `json:"bindings"`
	}{}
	file.VHosts = append(file.VHosts, struct {
		Name string `json:"name"`
	}{vhost})
	t := withArguments(p.Topology)
	for _, e := range t.Exchanges {
		file.Exchanges = append(file.Exchanges, exchange{vhost, e})
	}
	for _, q := range t.Queues {
		file.Queues = append(file.Queues, queue{vhost, q})
	}
	for _, b := range t.Bindings {
		file.Bindings = append(file.Bindings, binding{vhost, b})
	}
	return indented(file)
}

// withArguments is t with an empty table where there is none: a definitions file
// wants an object.
func withArguments(t reliable.Topology) reliable.Topology {
	u := reliable.Topology{Exchanges: slices.Clone(t.Exchanges), Queues: slices.Clone(t.Queues), Bindings: slices.Clone(t.Bindings)}
	for i := range u.Exchanges {
		u.Exchanges[i].Arguments = orEmpty(u.Exchanges[i].Arguments)
	}
	for i := range u.Queues {
		u.Queues[i].Arguments = orEmpty(u.Queues[i].Arguments)
	}
	for i := range u.Bindings {
		u.Bindings[i].Arguments = orEmpty(u.Bindings[i].Arguments)
	}
	return u
}

func orEmpty(t amqp.Table) amqp.Table {
	if t == nil {
		return amqp.Table{}
	}
	return t
}

// JSON is all of the plan for programs. Delays are in milliseconds.
func (p *Plan) JSON() ([]byte, error) {
	type step struct {
		Queue    string `json:"queue"`
		Attempt  int    `json:"attempt"`
		Delay    int64  `json:"delay_ms"`
		Min      int64  `json:"min_ms"`
		Max      int64  `json:"max_ms"`
		Exchange string `json:"exchange"`
		Key      string `json:"routing_key"`
		Levels   []int  `json:"levels"`
	}
	type queue struct {
		Name        string `json:"name"`
		DeadLetters string `json:"dead_letter_queue"`
	}
	out := struct {
		Server   Server            `json:"server"`
		Type     string            `json:"type"`
		Queues   []queue           `json:"queues"`
		Attempts int               `json:"attempts"`
		Jitter   float64           `json:"jitter"`
		Code     string            `json:"go"`
		Schedule []step            `json:"schedule"`
		Topology reliable.Topology `json:"topology"`
	}{p.Server, p.Type.String(), nil, p.Policy.Attempts, p.Policy.Jitter, p.Policy.Code(), []step{}, withArguments(p.Topology)}
	for _, q := range p.Queues {
		out.Queues = append(out.Queues, queue{q.Name, q.DeadLetterQueue()})
		for _, s := range p.Policy.Steps(p.Type, q.Name) {
			out.Schedule = append(out.Schedule, step{q.Name, s.Attempt, s.Delay.Milliseconds(), s.Min.Milliseconds(), s.Max.Milliseconds(),
				s.Exchange, s.Key, s.Levels})
		}
	}
	return indented(out)
}

func indented(v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("the plan cannot be written as JSON: %w", err)
	}
	return append(text, '\n'), nil
}
