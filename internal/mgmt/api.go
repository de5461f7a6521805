package mgmt

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/warrenmq/warren/internal/auth"
	"github.com/warrenmq/warren/internal/core/status"
	"github.com/warrenmq/warren/internal/core/topology"
	"github.com/warrenmq/warren/internal/wire"
)

// Topology is what stands in the virtual hosts. Lists have no order and belong to
// the caller; a virtual host that is not there has empty ones.
type Topology interface {
	VHosts() []string // sorted
	Exchanges(vhost string) []*topology.Exchange
	Exchange(vhost, name string) *topology.Exchange
	Queues(vhost string) []status.Handle[status.Queue]
	Bindings(vhost string, which status.Bindings) []topology.Binding
}

// Lookup finds one thing of many; nil if it is not there.
type Lookup interface {
	Queue(vhost, name string) status.Handle[status.Queue]
	QueueConsumers(vhost, name string) []status.Consumer
}

// Clients are those who are connected.
type Clients interface {
	Connections() []status.ClientHandle[status.Connection]
	Channels() []status.ClientHandle[status.Channel]
	Consumers(vhost string) []status.Consumer
}

// Sums tells how all of it is together.
type Sums interface {
	VHostStatus(name string) status.VHost
	NodeStatus() status.Node
}

// Messages is what can be done to messages, as a client with that name would.
type Messages interface {
	// GetMessages polls at most count messages and then gives them back or ends
	// them. The error is the protocol's.
	GetMessages(vhost, queue, user string, count int, what status.Disposal, each func(status.Message) bool) error
	// PublishMessage publishes, waits for the confirm, and tells whether any queue
	// was found for the message.
	PublishMessage(ctx context.Context, vhost, user string, p status.Publication) (routed bool, err error)
	// PurgeQueue drops what is ready.
	PurgeQueue(vhost, queue, user string) error
}

// Changes are made as a client with that name would make them. The error is the
// protocol's.
type Changes interface {
	// Change carries out a method of the classes queue and exchange.
	Change(vhost, user string, m wire.Method) error
}

// Config is what a Handler needs. All fields but Logger are required.
type Config struct {
	Topology Topology
	Lookup   Lookup
	Clients  Clients
	Sums     Sums
	Messages Messages
	Changes  Changes
	// CloseConnection closes a client's connection with that text, and tells whether
	// it was there.
	CloseConnection func(name, reason string) bool
	Users           *auth.Users
	Listeners       func() []status.Listener
	Now             func() time.Time
	Logger          *slog.Logger // nil: discarded
	Version         string       // of the broker
	NodeName        string       // warren@host
	// MaxConnections is the limit of the node, 0 for none.
	MaxConnections int
	// MaxMessageBytes is the largest body that may be published.
	MaxMessageBytes int64
}

// APIVersion is the version of RabbitMQ whose API this is. Clients that look at
// rabbitmq_version to know what they may ask get it; product_version is the
// broker's own.
const APIVersion = "4.3.0"

// ClusterName is the name that the broker shows to AMQP clients, too.
const ClusterName = "warren"

const (
	// maxInFlight bounds the requests that are handled at the same time. More wait
	// until their time is up.
	maxInFlight = 32
	// maxHeavy bounds those of them that hold messages in memory.
	maxHeavy = 4
	// maxBodyBytes bounds the body of a request, as in RabbitMQ. A larger message
	// cannot be published this way.
	maxBodyBytes = 20 << 20
	// answerWithin is how long an answer may take, from the request to its last
	// byte.
	answerWithin = 60 * time.Second
	// maxPathBytes bounds the path of a request.
	maxPathBytes = 8 << 10
)

// API answers requests. It is safe for concurrent use.
type API struct {
	Config
	routes   map[string][]route // by routeKey
	inFlight chan struct{}
	heavy    chan struct{} // likewise, of requests with messages
	// browsers keeps pages of other sites from using what a browser remembers of a
	// login here.
	browsers *http.CrossOriginProtection
}

// New returns the handler of all paths below /api and of /metrics.
func New(c Config) *API {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	a := &API{Config: c, routes: make(map[string][]route), inFlight: make(chan struct{}, maxInFlight),
		heavy: make(chan struct{}, maxHeavy), browsers: http.NewCrossOriginProtection()}
	a.addRoutes()
	return a
}

var _ http.Handler = (*API)(nil)
