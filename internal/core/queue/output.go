package queue

// Output collects what a run of inputs produced. The host owns it, passes it
// to every input of the run, carries it out, and Resets it for the next run, so
// that a steady flow allocates nothing.
type Output struct {
	Facts      []Fact
	Deliveries []Delivery
	Dead       []Dead
	// Released are messages that are done for good: the host drops their body
	// references.
	Released []Entry
	// Unused is set when an auto-delete queue has lost its last consumer: the
	// host deletes the queue.
	Unused bool
	// Fetch is the body reference of the message at the head, if that is not in
	// memory: nothing is delivered before the host has brought it there and
	// dispatches again. Zero for none.
	Fetch uint64
	// Warm is set when the first message of a level is in a cold page: nothing goes
	// on before the host has given the pages of ColdHead to Warm, and Requeued.
	Warm bool
	// Cold are pages that went without being looked at, by Purge or Close: the host
	// drops their references by their homes.
	Cold []*Cold
	// LastSeq is what Enqueue has numbered the last message it accepted.
	LastSeq Seq
	// NoEnqueued leaves Enqueued facts out, for a host that logs its publishes
	// itself. Reset keeps it.
	NoEnqueued bool
}

// Reset empties o and keeps its memory.
func (o *Output) Reset() {
	o.Facts = o.Facts[:0]
	clear(o.Deliveries) // drop consumer pointers
	o.Deliveries = o.Deliveries[:0]
	o.Dead = o.Dead[:0]
	o.Released = o.Released[:0]
	o.Unused = false
	o.Fetch = 0
	o.Warm = false
	clear(o.Cold)
	o.Cold = o.Cold[:0]
}

// FactKind says what a Fact records.
type FactKind uint8

const (
	// Enqueued: Entry is in the queue under Seq.
	Enqueued FactKind = iota + 1
	// Delivered: Seq was handed out.
	Delivered
	// Returned: Seq is ready again; Tries is how often it has come back, which
	// does not grow when it never reached a consumer.
	Returned
	// Settled: Seq is done (acked, dropped, expired, or moved).
	Settled
	// Died: Seq is dead for Reason, and kept until every target has it.
	Died
)

// extend adds a fact about one message, to the range before it if it follows.
func extend(facts []Fact, kind FactKind, s Seq) []Fact {
	if n := len(facts); n > 0 && facts[n-1].Kind == kind && facts[n-1].To+1 == s {
		facts[n-1].To = s
		return facts
	}
	return append(facts, Fact{Kind: kind, Seq: s, To: s})
}

// extendRange adds a fact about a range of messages likewise.
func extendRange(facts []Fact, kind FactKind, from, to Seq) []Fact {
	if n := len(facts); n > 0 && facts[n-1].Kind == kind && facts[n-1].To+1 == from {
		facts[n-1].To = to
		return facts
	}
	return append(facts, Fact{Kind: kind, Seq: from, To: to})
}

// Fact is something that happened to a persistent message of a durable queue,
// in the past tense: what a log must hold so that replay rebuilds the queue.
type Fact struct {
	Kind   FactKind
	Seq    Seq
	To     Seq // Settled and Delivered: the last of a range that begins at Seq
	Tries  Tries
	Reason Reason
	Entry  Entry
}

// Delivery is the effect of handing a message to a consumer.
type Delivery struct {
	Consumer *Consumer
	Seq      Seq
	Entry    Entry
	Tries    Tries // how often it has come back
	// Done is set for consumers that do not acknowledge: the message has left
	// the queue, and the host drops the body reference once it is copied out.
	Done bool
}

// Reason is why a message was dead-lettered, in RabbitMQ's words (String).
type Reason uint8

const (
	Rejected Reason = iota + 1
	Expired
	MaxLen
	DeliveryLimit
)

// String is the value of the reason field of x-death.
func (r Reason) String() string {
	switch r {
	case Rejected:
		return "rejected"
	case Expired:
		return "expired"
	case MaxLen:
		return "maxlen"
	case DeliveryLimit:
		return "delivery_limit"
	}
	return "unknown"
}

// Dead is the effect of a message that must go to the queue's dead-letter
// exchange. The message is in state moving until the host calls FinishMove, or
// hands it back with Park.
type Dead struct {
	Seq    Seq
	Entry  Entry
	Reason Reason
}
