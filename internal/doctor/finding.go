package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Severity orders findings.
type Severity string

// The severities.
const (
	Loss      Severity = "loss"      // messages are lost now, or at the next failure that is bound to come
	Risk      Severity = "risk"      // they are lost or stand still when something else goes wrong
	Suspicion Severity = "suspicion" // a sign of a mistake that the broker itself cannot show
)

func (s Severity) rank() int { return slices.Index([]Severity{Loss, Risk, Suspicion}, s) }

// Finding is one mistake at one place.
type Finding struct {
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	VHost    string   `json:"vhost"`
	Object   string   `json:"object"` // "queue orders"
	Seen     string   `json:"seen"`
	Lost     string   `json:"lost"` // what can be lost, and when
	Mend     string   `json:"mend"` // a command, or a change in the program
}

// Report is the outcome of an examination.
type Report struct {
	Product  string    `json:"product"`
	Version  string    `json:"version"`
	Examined string    `json:"examined"` // how much was looked at, in words
	Findings []Finding `json:"findings"`
	// Unexamined says which checks could not be made, and why.
	Unexamined []string `json:"unexamined"`
}

func (r *Report) add(f Finding) { r.Findings = append(r.Findings, f) }

func (r *Report) skip(format string, args ...any) {
	r.Unexamined = append(r.Unexamined, fmt.Sprintf(format, args...))
}

// sort puts what is worst first.
func (r *Report) sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Severity.rank(), b.Severity.rank()), strings.Compare(a.Check, b.Check),
			strings.Compare(a.VHost, b.VHost), strings.Compare(a.Object, b.Object))
	})
}

// Text is the report for people.
func (r *Report) Text() string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s: %s (%s)\n  where  %s in virtual host %s\n  seen   %s\n  lost   %s\n  mend   %s\n\n",
			strings.ToUpper(string(f.Severity)), f.Check, nameOf(f.Check), visible(f.Object), visible(f.VHost), visible(f.Seen), f.Lost, visible(f.Mend))
	}
	n := "no findings"
	if len(r.Findings) > 0 {
		n = count(len(r.Findings), "finding")
	}
	fmt.Fprintf(&b, "%s %s: %s in %s\n", r.Product, r.Version, n, r.Examined)
	for _, u := range r.Unexamined {
		fmt.Fprintf(&b, "not examined: %s\n", u)
	}
	return b.String()
}

// visible shows what would do something to a terminal: names are any bytes that
// some client has chosen.
func visible(s string) string {
	if strings.IndexFunc(s, unicode.IsControl) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsControl(r) || r == utf8.RuneError {
			fmt.Fprintf(&b, `\u%04x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// The checks. Their names are a promise: programs filter by them.
const (
	AutoAck           = "auto-ack"
	UnlimitedPrefetch = "unlimited-prefetch"
	NoDeadLetters     = "no-dead-letter-exchange"
	DeadLettersLost   = "dead-letters-nowhere"
	AtMostOnce        = "at-least-once-without-reject-publish"
	NoDeliveryLimit   = "unlimited-redelivery"
	RedeliveryLoop    = "redelivery-loop"
	TransientMessages = "transient-messages"
	DeadLettersStuck  = "dead-letters-stuck"
	NetworkDamaged    = "delay-network-damaged"
	ClassicNetwork    = "delay-network-classic"
	LostAndFound      = "lost-messages"
	ConsumerTimeout   = "consumer-timeout"
	NoConsumer        = "no-consumer"
	DeadLettersWait   = "dead-letters-waiting"
	GrowingBacklog    = "growing-backlog"
	Unconfirmed       = "unconfirmed-publisher"
	Unroutable        = "unroutable-dropped"
	NoMessageID       = "no-message-id"
)

// Check is a kind of finding.
type Check struct {
	Name  string
	Finds string   // in a few words
	When  string   // what has to be seen
	Worst Severity // of its findings
}

// Checks lists all checks in the order of the documentation.
func Checks() []Check {
	return []Check{
		{AutoAck, "consumers that acknowledge before they have worked", "a consumer with automatic acknowledgement (`ack_required` false) on a queue that lasts", Loss},
		{UnlimitedPrefetch, "consumers that are sent the whole queue at once", "a consumer with prefetch 0, on a channel without a global limit", Risk},
		{Unconfirmed, "publishers that do not ask for confirms", "a channel that has published, neither in confirm mode nor transactional", Loss},
		{Unroutable, "messages that were published to nobody", "a channel whose messages were dropped as unroutable (`drop_unroutable`)", Loss},
		{TransientMessages, "transient messages in a durable queue", "`messages_persistent` below `messages` (RabbitMQ), transient messages counted (WarrenMQ), or sampled ones; not in quorum queues, which keep them", Loss},
		{NoDeadLetters, "a queue without a dead-letter exchange", "neither argument nor policy names one, and the queue is not itself one for dead letters", Risk},
		{DeadLettersLost, "a dead-letter exchange that leads nowhere", "the exchange or the queue behind the default exchange does not exist, or no binding can take the dead letters, and there is no alternate exchange", Loss},
		{AtMostOnce, "at-least-once dead-lettering that is not in force", "`x-dead-letter-strategy: at-least-once` without `x-overflow: reject-publish`, without a dead-letter exchange, or on a classic queue", Risk},
		{NoDeliveryLimit, "a queue that redelivers without end", "a quorum queue whose delivery limit is -1, or not set on RabbitMQ before 4.0", Risk},
		{RedeliveryLoop, "messages that come back again and again", "at least 10 redeliveries between the looks, and more than acknowledgements", Risk},
		{DeadLettersStuck, "dead letters or delayed messages that do not get on", "`messages_dlx` is not 0 in both looks", Loss},
		{NetworkDamaged, "a delay network that is not as it was declared", "`warren topology verify` would find it", Loss},
		{ClassicNetwork, "a delay network of classic queues", "its levels are declared", Risk},
		{LostAndFound, "messages whose queue was gone", "the queue `wrn.v1.lost` is not empty", Risk},
		{ConsumerTimeout, "handlers that may take longer than the server waits", "the time you give with `--handler-timeout` is not below that of the consumer, the queue or its policy, else RabbitMQ's usual 30 minutes. WarrenMQ waits for as long as it takes", Risk},
		{NoConsumer, "messages that nobody consumes", "messages are ready, and there is no consumer; not if the queue has a time to live", Risk},
		{GrowingBacklog, "a queue that grows although it is consumed", "more messages ready than at the first look, and `--backlog` or more", Risk},
		{DeadLettersWait, "dead letters that nobody has looked at", "a queue where dead letters end is not empty and has no consumer", Suspicion},
		{NoMessageID, "messages that cannot be told from their duplicates", "messages that were looked at (`--sample`) have no `message_id`", Suspicion},
	}
}

func nameOf(check string) string {
	for _, c := range Checks() {
		if c.Name == check {
			return c.Finds
		}
	}
	return check
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// quote makes one word of the shell of s.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/:,+=@%", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
