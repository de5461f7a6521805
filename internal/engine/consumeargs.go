package engine

import (
	"fmt"
	"math"

	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/core/topology"
	"github.com/warrenmq/warren/internal/wire"
)

// checkConsumeArgs refuses consumer arguments that the queue's type does not
// have, and reads x-priority: any integer, 0 if absent. Arguments that nobody
// knows are ignored, as in RabbitMQ.
func (q *Queue) checkConsumeArgs(args wire.Table) (priority int, err *wire.Error) {
	for _, a := range args {
		switch a.Key {
		case "x-priority":
			n, ok := integer(a.Value)
			if !ok {
				return 0, q.badArg(a.Key, ": "+exchange.QuoteTerm("expected integer, got "+wire.TypeName(a.Value)))
			}
			priority = n
		case "x-stream-offset", "x-stream-filter", "x-stream-match-unfiltered":
			return 0, q.badArg(a.Key, q.ofType())
		case "x-consumer-timeout":
			if q.def.Config.Type != topology.Quorum {
				return 0, q.badArg(a.Key, q.ofType())
			}
		}
	}
	return priority, nil
}

func (q *Queue) ofType() string {
	return fmt.Sprintf(" of queue type rabbit_%s_queue", q.def.Config.Type)
}

func (q *Queue) badArg(key, why string) *wire.Error {
	return wire.ChannelError(wire.PreconditionFailed, "invalid arg '%s' for queue '%s' in vhost '%s'%s",
		key, q.def.Name, q.vh.name, why)
}

func integer(v any) (int, bool) {
	switch n := v.(type) {
	case int8:
		return int(n), true
	case uint8:
		return int(n), true
	case int16:
		return int(n), true
	case uint16:
		return int(n), true
	case int32:
		return int(n), true
	case uint32:
		return int(min(n, math.MaxInt32)), true
	case int64:
		return int(max(min(n, math.MaxInt32), math.MinInt32)), true
	}
	return 0, false
}
