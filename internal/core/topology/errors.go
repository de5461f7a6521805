package topology

import (
	"strings"

	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/wire"
)

// systemPrefix starts the names that only the broker may create.
const systemPrefix = "amq."

// volatilePrefix starts the names direct reply-to gives out, which are no queues.
const volatilePrefix = "amq.rabbitmq.reply-to."

// describe prints a resource as RabbitMQ's error texts do: queue 'q' in vhost '/'.
func (v *VHost) describe(kind exchange.DestKind, name string) string {
	return kind.String() + " '" + name + "' in vhost '" + v.name + "'"
}

func (v *VHost) describeQueue(name string) string { return v.describe(exchange.Queue, name) }

func (v *VHost) describeExchange(name string) string { return v.describe(exchange.Exchange, name) }

// NoQueue is the 404 for a queue that does not exist.
func (v *VHost) NoQueue(name string) *wire.Error {
	return wire.ChannelError(wire.NotFound, "no %s", v.describeQueue(name))
}

// NoExchange is the 404 for an exchange that does not exist.
func (v *VHost) NoExchange(name string) *wire.Error {
	return wire.ChannelError(wire.NotFound, "no %s", v.describeExchange(name))
}

func defaultExchangeRefused() *wire.Error {
	return wire.ChannelError(wire.AccessRefused, "operation not permitted on the default exchange")
}

func reservedName(kind exchange.DestKind, name string) *wire.Error {
	if !strings.HasPrefix(name, systemPrefix) {
		return nil
	}
	return wire.ChannelError(wire.AccessRefused, "%s name '%s' contains reserved prefix 'amq.*'", kind, name)
}

// precondition is a 406 with the text as it is: it may hold a client's percent signs.
func precondition(text string) *wire.Error {
	return wire.ChannelError(wire.PreconditionFailed, "%s", text)
}

var nameCleaner = strings.NewReplacer("\r", "", "\n", "")

// CleanName is a name as declares, deletes and bindings read it, as in RabbitMQ:
// without CR and LF. Those methods apply it themselves; permission checks that
// come first need it too. Publishing and consuming take names as they are.
func CleanName(name string) string {
	if strings.ContainsAny(name, "\r\n") {
		return nameCleaner.Replace(name)
	}
	return name
}
