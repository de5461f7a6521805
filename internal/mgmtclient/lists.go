package mgmtclient

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Overview is what there is to know about the broker as a whole.
type Overview struct {
	Product  string `json:"product_name"`    // "RabbitMQ", "WarrenMQ"
	Version  string `json:"product_version"` // of the product
	RabbitMQ string `json:"rabbitmq_version"`
	// DisableStats: the server has no counts and rates.
	DisableStats bool `json:"disable_stats"`
}

// Whoami is the user and what they may do.
type Whoami struct {
	Name string `json:"name"`
	Tags tags   `json:"tags"`
}

// Monitors says that the user sees everybody's connections.
func (w Whoami) Monitors() bool {
	for _, t := range w.Tags {
		if t == "monitoring" || t == "administrator" {
			return true
		}
	}
	return false
}

// tags are a list, or text with commas as before RabbitMQ 3.9.
type tags []string

// UnmarshalJSON implements json.Unmarshaler.
func (t *tags) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `[]"`)
	*t = strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '"' || r == ' ' })
	return nil
}

// Table is a field table as the API shows it: numbers are float64.
type Table map[string]any

// UnmarshalJSON implements json.Unmarshaler. RabbitMQ shows an empty table as [] at
// times.
func (t *Table) UnmarshalJSON(b []byte) error {
	*t = nil
	if len(b) > 0 && b[0] == '[' {
		return nil
	}
	return json.Unmarshal(b, (*map[string]any)(t))
}

// Text is a string of the table, "" if there is none.
func (t Table) Text(key string) string {
	s, _ := t[key].(string)
	return s
}

// Number is a number of the table.
func (t Table) Number(key string) (int64, bool) {
	f, ok := t[key].(float64)
	return int64(f), ok
}

// Rate is how something changes.
type Rate struct {
	PerSecond float64 `json:"rate"`
}

// Stats are the counts of a queue or channel.
type Stats struct {
	Publish          uint64 `json:"publish"`
	Confirm          uint64 `json:"confirm"`
	ReturnUnroutable uint64 `json:"return_unroutable"`
	DropUnroutable   uint64 `json:"drop_unroutable"`
	DeliverGet       uint64 `json:"deliver_get"`
	Redeliver        uint64 `json:"redeliver"`
	Ack              uint64 `json:"ack"`
	PublishRate      Rate   `json:"publish_details"`
	AckRate          Rate   `json:"ack_details"`
}

// Queue is a queue. Pointers are nil where the server does not say.
type Queue struct {
	VHost      string `json:"vhost"`
	Name       string `json:"name"`
	Type       string `json:"type"` // "classic", "quorum", "stream"
	Durable    bool   `json:"durable"`
	AutoDelete bool   `json:"auto_delete"`
	Exclusive  bool   `json:"exclusive"`
	State      string `json:"state"`
	Arguments  Table  `json:"arguments"`
	Policy     Table  `json:"effective_policy_definition"`

	Messages   int    `json:"messages"`
	Ready      int    `json:"messages_ready"`
	Unacked    int    `json:"messages_unacknowledged"`
	Persistent *int   `json:"messages_persistent"`
	Transient  uint64 `json:"messages_transient_published"` // of WarrenMQ
	Dying      int    `json:"messages_dlx"`                 // dead letters that have not arrived
	Consumers  int    `json:"consumers"`
	Stats      Stats  `json:"message_stats"`
}

// Argument is the value of an argument, or of the policy that stands for it: the
// argument's name without "x-". Where both have one, an argument wins, but the
// smaller number counts.
func (q *Queue) Argument(name string) any {
	policy := q.Policy[strings.TrimPrefix(name, "x-")]
	argument, ok := q.Arguments[name]
	if !ok {
		return policy
	}
	a, isNumber := argument.(float64)
	if p, both := policy.(float64); isNumber && both {
		return min(a, p)
	}
	return argument
}

// Exchange is an exchange.
type Exchange struct {
	VHost      string `json:"vhost"`
	Name       string `json:"name"`
	Type       string `json:"type"`
	Durable    bool   `json:"durable"`
	AutoDelete bool   `json:"auto_delete"`
	Internal   bool   `json:"internal"`
	Arguments  Table  `json:"arguments"`
	Policy     Table  `json:"effective_policy_definition"`
}

// Binding is a binding.
type Binding struct {
	VHost           string `json:"vhost"`
	Source          string `json:"source"`
	Destination     string `json:"destination"`
	DestinationType string `json:"destination_type"`
	Key             string `json:"routing_key"`
	Arguments       Table  `json:"arguments"`
}

// Consumer is a subscription.
type Consumer struct {
	Tag   string `json:"consumer_tag"`
	Queue struct {
		VHost string `json:"vhost"`
		Name  string `json:"name"`
	} `json:"queue"`
	Channel struct {
		Name       string `json:"name"`
		Connection string `json:"connection_name"`
		User       string `json:"user"`
	} `json:"channel_details"`
	AckRequired bool  `json:"ack_required"`
	Prefetch    int   `json:"prefetch_count"` // 0 for no bound
	Arguments   Table `json:"arguments"`
	// TimeoutMillis is how long an acknowledgement may take; 0 if it is not said.
	TimeoutMillis optionalNumber `json:"consumer_timeout"`
}

// optionalNumber is 0 for whatever is no number ("undefined").
type optionalNumber int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *optionalNumber) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	*n = optionalNumber(f) // 0 after an error
	if err != nil {
		*n = 0
	}
	return nil
}

// Channel is a channel.
type Channel struct {
	VHost          string `json:"vhost"`
	Name           string `json:"name"`
	User           string `json:"user"`
	Confirm        bool   `json:"confirm"`
	Transactional  bool   `json:"transactional"`
	GlobalPrefetch int    `json:"global_prefetch_count"` // 0 for no bound
	Stats          Stats  `json:"message_stats"`
	Connection     struct {
		Name string `json:"name"`
	} `json:"connection_details"`
}

// Connection is a connection.
type Connection struct {
	VHost        string `json:"vhost"`
	Name         string `json:"name"`
	User         string `json:"user"`
	UserProvided string `json:"user_provided_name"`
}

// Message is a message that was looked at.
type Message struct {
	Redelivered bool  `json:"redelivered"`
	Properties  Table `json:"properties"`
}

// Overview asks for /api/overview.
func (c *Client) Overview(ctx context.Context) (o Overview, err error) {
	err = c.get(ctx, "/overview", &o)
	if o.Product == "" {
		o.Product = "RabbitMQ" // before 3.8 there was no other
	}
	if o.Version == "" {
		o.Version = o.RabbitMQ
	}
	return o, err
}

// Whoami asks for /api/whoami.
func (c *Client) Whoami(ctx context.Context) (w Whoami, err error) {
	err = c.get(ctx, "/whoami", &w)
	return w, err
}

// inVHost is the path of a list, of all virtual hosts if vhost is empty.
func inVHost(list, vhost string) string {
	if vhost == "" {
		return Path(list)
	}
	return Path(list, vhost)
}

// Queues are the queues of a virtual host, or of all if vhost is empty.
func (c *Client) Queues(ctx context.Context, vhost string) ([]Queue, error) {
	return paged[Queue](ctx, c, inVHost("queues", vhost))
}

// Exchanges are the exchanges of a virtual host, or of all.
func (c *Client) Exchanges(ctx context.Context, vhost string) ([]Exchange, error) {
	return paged[Exchange](ctx, c, inVHost("exchanges", vhost))
}

// Bindings are the bindings of a virtual host, or of all. The server has no pages
// of them.
func (c *Client) Bindings(ctx context.Context, vhost string) (all []Binding, err error) {
	err = c.get(ctx, inVHost("bindings", vhost), &all)
	return all, err
}

// Consumers are the consumers of a virtual host, or of all. The server has no pages
// of them.
func (c *Client) Consumers(ctx context.Context, vhost string) (all []Consumer, err error) {
	err = c.get(ctx, inVHost("consumers", vhost), &all)
	return all, err
}

// Channels are all channels that the user may see.
func (c *Client) Channels(ctx context.Context) ([]Channel, error) {
	return paged[Channel](ctx, c, "/channels")
}

// Connections are all connections that the user may see.
func (c *Client) Connections(ctx context.Context) ([]Connection, error) {
	return paged[Connection](ctx, c, "/connections")
}

// Peek takes at most n messages from the head of a queue and gives them back, which
// leaves them marked redelivered, and counts as a delivery where the server counts.
func (c *Client) Peek(ctx context.Context, vhost, queue string, n int) ([]Message, error) {
	in := struct {
		Count    int    `json:"count"`
		Mode     string `json:"ackmode"`
		Encoding string `json:"encoding"`
		Truncate int    `json:"truncate"`
	}{n, "ack_requeue_true", "auto", 1}
	var out []Message
	err := c.do(ctx, http.MethodPost, Path("queues", vhost, queue, "get"), nil, in, &out)
	return out, err
}

// StatsDelay is how old counts may be: RabbitMQ collects them every five seconds.
const StatsDelay = 5 * time.Second
