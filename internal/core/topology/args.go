package topology

import (
	"fmt"
	"slices"
	"strings"

	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/wire"
)

const typeArg = "x-queue-type"

// maxExpiryMs is RabbitMQ's bound on every time span: ten years.
const maxExpiryMs = 315360000000

// argsOf lists the arguments each queue type knows, in the order in which
// RabbitMQ compares them on a redeclare. An argument that only another type
// knows is refused; one that no type knows is accepted and kept.
var argsOf = map[QueueType][]string{
	Classic: {
		"x-expires", "x-message-ttl", "x-dead-letter-exchange", "x-dead-letter-routing-key",
		"x-max-length", "x-max-length-bytes", "x-max-priority", "x-overflow", "x-queue-mode",
		"x-queue-version", "x-single-active-consumer", typeArg, "x-queue-master-locator",
		"x-queue-leader-locator",
	},
	Quorum: {
		"x-dead-letter-exchange", "x-dead-letter-routing-key", "x-dead-letter-strategy", "x-expires",
		"x-max-length", "x-max-length-bytes", "x-max-in-memory-length", "x-max-in-memory-bytes",
		"x-overflow", "x-single-active-consumer", typeArg, "x-quorum-initial-group-size",
		"x-delivery-limit", "x-message-ttl", "x-queue-leader-locator",
		"x-consumer-disconnected-timeout", "x-consumer-timeout", "x-delayed-retry-type",
		"x-delayed-retry-min", "x-delayed-retry-max",
	},
}

// streamArgs are those that only stream queues know.
var streamArgs = []string{
	"x-max-age", "x-stream-max-segment-size-bytes", "x-stream-filter-size-bytes", "x-initial-cluster-size",
}

// foreign reports whether key belongs to other queue types than t alone.
func foreign(t QueueType, key string) bool {
	if slices.Contains(argsOf[t], key) {
		return false
	}
	return slices.Contains(argsOf[Classic], key) || slices.Contains(argsOf[Quorum], key) ||
		slices.Contains(streamArgs, key)
}

// argCheck returns what is wrong with a value, as RabbitMQ prints it, or "".
type argCheck func(v any, args wire.Table) string

// argChecks are the checks in RabbitMQ's order, x-queue-type apart: it comes first.
var argChecks = []struct {
	key   string
	check argCheck
}{
	{"x-expires", checkExpires},
	{"x-message-ttl", checkMessageTTL},
	{"x-dead-letter-exchange", checkString},
	{"x-dead-letter-routing-key", checkDLRoutingKey},
	{"x-dead-letter-strategy", oneOf("invalid_dlx_strategy", "at-most-once", "at-least-once")},
	{"x-max-length", checkNotNegative},
	{"x-max-length-bytes", checkNotNegative},
	{"x-max-in-memory-length", checkNotNegative},
	{"x-max-in-memory-bytes", checkNotNegative},
	{"x-max-priority", checkMaxPriority},
	{"x-overflow", oneOf("invalid_overflow", "drop-head", "reject-publish", "reject-publish-dlx")},
	{"x-queue-version", checkQueueVersion},
	{"x-single-active-consumer", checkBool},
	{"x-consumer-timeout", checkNotNegative},
	{"x-consumer-disconnected-timeout", checkNotNegative},
	{"x-quorum-initial-group-size", checkPositive},
	{"x-queue-leader-locator", oneOf("invalid_queue_locator_arg", "client-local", "balanced", "random", "least-leaders")},
}

// withQueueType adds x-queue-type classic if no type is named, as RabbitMQ does,
// keeping the table sorted where it adds something. It does not write to args.
func withQueueType(args wire.Table) wire.Table {
	if _, ok := args.Get(typeArg); ok {
		return args
	}
	out := make(wire.Table, 0, len(args)+1)
	out = append(append(out, args...), wire.Field{Key: typeArg, Value: Classic.String()})
	slices.SortStableFunc(out, func(a, b wire.Field) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// queueTypeOf reads x-queue-type. RabbitMQ takes the empty and the undefined
// type for the default one.
func queueTypeOf(args wire.Table) QueueType {
	if s, _ := stringArg(args, typeArg); s == "quorum" {
		return Quorum
	}
	return Classic
}

// checkQueueType refuses types that are unknown, or known but not ours.
func checkQueueType(v any, _ wire.Table) string {
	s, ok := v.(string)
	if !ok {
		return unacceptable(v)
	}
	switch s {
	case "classic", "quorum", "", "undefined":
		return ""
	case "stream":
		return exchange.QuoteTerm("stream queues are not supported yet")
	}
	return exchange.QuoteTerm("unsupported queue type '" + s + "'")
}

// serverNamedAllowed: a queue type that lives on after its declarer refuses
// names that only the declarer will ever know.
func serverNamedAllowed(args wire.Table) *wire.Error {
	v, _ := args.Get(typeArg)
	switch v {
	case "classic", "", "undefined":
		return nil
	case "quorum", "stream":
		return precondition(fmt.Sprintf("Cannot declare a server-named queue for type rabbit_%s_queue", v))
	}
	return precondition(fmt.Sprintf("unknown queue type '%v'", v))
}

// checkQueueArgs checks what a new queue is declared with, in RabbitMQ's order.
func (v *VHost) checkQueueArgs(name string, r DeclareQueue) *wire.Error {
	on := v.describeQueue(name)
	invalid := func(key, reason string) *wire.Error {
		return precondition("invalid arg '" + key + "' for " + on + ": " + reason)
	}
	if dlx, ok := r.Args.Get("x-dead-letter-exchange"); ok {
		if _, isString := dlx.(string); !isString {
			return precondition(fmt.Sprintf("invalid type '%s' for arg 'x-dead-letter-exchange' in %s",
				wire.TypeName(dlx), on))
		}
	}
	if t, ok := r.Args.Get(typeArg); ok {
		if reason := checkQueueType(t, r.Args); reason != "" {
			return invalid(typeArg, reason)
		}
	}
	t := queueTypeOf(r.Args)
	for _, c := range argChecks {
		val, ok := r.Args.Get(c.key)
		if !ok || !slices.Contains(argsOf[t], c.key) {
			continue
		}
		if reason := c.check(val, r.Args); reason != "" {
			return invalid(c.key, reason)
		}
	}
	for _, f := range r.Args {
		if foreign(t, f.Key) {
			return precondition(fmt.Sprintf("invalid arg '%s' for %s of queue type rabbit_%s_queue", f.Key, on, t))
		}
	}
	if t == Quorum {
		return quorumProperties(on, r)
	}
	return nil
}

func quorumProperties(on string, r DeclareQueue) *wire.Error {
	property := ""
	switch {
	case r.AutoDelete:
		property = "auto-delete"
	case r.Exclusive:
		property = "exclusive-owner"
	case !r.Durable:
		property = "non-durable"
	default:
		return nil
	}
	return precondition("invalid property '" + property + "' for " + on)
}

// reason prints {what,value}.
func reason(what string, v any) string { return "{" + what + "," + exchange.Term(v) + "}" }

func unacceptable(v any) string { return "{unacceptable_type," + wire.TypeName(v) + "}" }

// checkInt returns the number, or why there is none.
func checkInt(v any) (int64, string) {
	n, ok := intValue(v)
	if !ok {
		return 0, exchange.QuoteTerm("expected integer, got " + wire.TypeName(v))
	}
	return n, ""
}

func checkNotNegative(v any, _ wire.Table) string {
	n, bad := checkInt(v)
	if bad == "" && n < 0 {
		return reason("value_negative", v)
	}
	return bad
}

func checkPositive(v any, args wire.Table) string {
	if n, bad := checkInt(v); bad == "" && n == 0 {
		return reason("value_zero", v)
	}
	return checkNotNegative(v, args)
}

func checkMessageTTL(v any, args wire.Table) string {
	if n, bad := checkInt(v); bad == "" && n > maxExpiryMs {
		return reason("value_too_large", v)
	}
	return checkNotNegative(v, args)
}

func checkExpires(v any, args wire.Table) string {
	if n, bad := checkInt(v); bad == "" && n == 0 {
		return reason("value_zero", v)
	}
	return checkMessageTTL(v, args)
}

func checkMaxPriority(v any, args wire.Table) string {
	if n, bad := checkInt(v); bad == "" && n > 255 {
		return reason("max_value_exceeded", v)
	}
	return checkNotNegative(v, args)
}

// checkQueueVersion also takes 1, which RabbitMQ did before 4.3: either way the
// version says how classic queues lie on RabbitMQ's disk, which is not ours.
func checkQueueVersion(v any, args wire.Table) string {
	if n, bad := checkInt(v); bad == "" && n != 1 && n != 2 && n >= 0 {
		return exchange.QuoteTerm(fmt.Sprintf("unsupported queue version '%d'", n))
	}
	return checkNotNegative(v, args)
}

func checkBool(v any, _ wire.Table) string {
	if _, ok := v.(bool); !ok {
		return unacceptable(v)
	}
	return ""
}

func checkString(v any, _ wire.Table) string {
	if _, ok := v.(string); !ok {
		return unacceptable(v)
	}
	return ""
}

func checkDLRoutingKey(v any, args wire.Table) string {
	if bad := checkString(v, args); bad != "" {
		return bad
	}
	if _, ok := args.Get("x-dead-letter-exchange"); !ok {
		return "routing_key_but_no_dlx_defined"
	}
	return ""
}

// oneOf makes the check for a word from a list; what names the failure.
func oneOf(what string, words ...string) argCheck {
	return func(v any, args wire.Table) string {
		s, ok := v.(string)
		if !ok {
			return unacceptable(v)
		}
		if !slices.Contains(words, s) {
			return what
		}
		return ""
	}
}
