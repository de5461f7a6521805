package reliable

import "github.com/warrenmq/warren/reliable/dedup"

// task is a delivery on its way through a consumer. One goroutine at a time has it,
// and settles it once: on the subscription that it came on, or not at all.
type task struct {
	sub *subscription
	d   *Delivery
	at  dedup.Attempt // that of the message in the queue; attempts in place only change d

	// With Idempotent or InTx:
	key   dedup.Key
	claim dedup.Claim // held while the handler runs and until the message is settled
	held  bool
	fence bool // InTx has rolled back: the fence is to be raised without a claim
}

// ack has the message acknowledged soon.
func (t *task) ack() {
	t.sub.settler.ack(t.d.message.DeliveryTag)
	t.sub.open.Add(-1)
}

// reject gives the message back to its queue, or makes it a dead letter.
func (t *task) reject(requeue bool) {
	t.sub.settler.reject(t.d.message.DeliveryTag, requeue)
	t.sub.open.Add(-1)
}

// leave does not settle the message: it comes again when its channel ends.
func (t *task) leave() { t.sub.open.Add(-1) }
