package demo

// sabotage breaks the lesson on purpose, so that tests can see each check fail.
// The zero value, the only one outside tests, breaks nothing.
type sabotage struct {
	loseBinding      bool // step 1: a queue is not bound, so a copy gets lost
	leakBinding      bool // step 1: a queue is bound to everything
	ignoreConfirm    bool // step 2: the last confirm of a batch is not waited for
	fixSlip          bool // step 2: the queue of the slip of the pen exists
	noPrefetch       bool // step 3: the slow consumer sets no limit
	everyoneSlow     bool // step 3: the fast consumer is no faster
	ackBeforeCrash   bool // step 4: the consumer acks before it works, then dies
	loseAck          bool // step 4: the survivor does not ack its last message
	hideMalformed    bool // step 5: the malformed message is acked
	skipRepair       bool // step 5: the dead letter is thrown away
	flatRetry        bool // step 6: every delay is the first one
	giveUpEarly      bool // step 6: the last attempt claims to be done
	noLimit          bool // step 6: the last attempt, too, is tried again
	handleDuplicates bool // step 7: ids are not remembered
	loseConfirmed    bool // step 8: a confirmed message disappears with the broker
}
