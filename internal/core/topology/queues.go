package topology

import (
	"cmp"
	"slices"

	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/wire"
)

// DeclareQueue is queue.declare. The caller answers names that begin with
// amq.rabbitmq.reply-to itself: those are not queues.
type DeclareQueue struct {
	Name       string // empty: the broker names the queue
	Passive    bool   // only look whether it is there; Name and Owner are all that count then
	Durable    bool
	Exclusive  bool
	AutoDelete bool
	Args       wire.Table // kept or copied, never written to

	Owner         uint64 // the declaring connection's id, not 0
	ID            uint64 // id for a new queue, not used before; not consumed if created is false
	GeneratedName string // "amq.gen-…", the name to use if Name is empty
}

// DeclareQueue declares a queue, or finds the equivalent one that is already
// there. created tells which. Errors: 403 for a reserved name, 404 if a passive
// declare finds nothing, 405 for another connection's exclusive queue or an
// exclusive declare of a shared one, 406 for bad arguments, a combination that
// the queue type refuses, or what is not equivalent.
func (v *VHost) DeclareQueue(r DeclareQueue) (q *Queue, created bool, err *wire.Error) {
	name := CleanName(r.Name)
	if r.Passive {
		if q, err = v.FindQueue(name); err != nil {
			return nil, false, err
		}
		return q, false, v.CheckAccess(q, r.Owner)
	}
	r.Args = withQueueType(r.Args)
	if name == "" {
		if err = serverNamedAllowed(r.Args); err != nil {
			return nil, false, err
		}
		name = r.GeneratedName
	} else if err = reservedName(exchange.Queue, name); err != nil {
		return nil, false, err
	}
	// An exclusive queue ends with its connection, so durability means nothing.
	r.Durable = r.Durable && !r.Exclusive
	if q = v.queues[name]; q != nil {
		return q, false, v.queueEquivalent(q, r)
	}
	if err = v.checkQueueArgs(name, r); err != nil {
		return nil, false, err
	}
	q = &Queue{
		ID: r.ID, Name: name,
		Durable: r.Durable, Exclusive: r.Exclusive, AutoDelete: r.AutoDelete,
		Args: r.Args, Config: parseConfig(r.Args),
	}
	if r.Exclusive {
		q.Owner = r.Owner
	}
	v.addQueue(q)
	return q, true, nil
}

func (v *VHost) addQueue(q *Queue) {
	q.in.incoming = true
	v.queues[q.Name] = q
	v.queuesByID[q.ID] = q
	if q.Owner != 0 {
		if v.owned[q.Owner] == nil {
			v.owned[q.Owner] = make(map[uint64]*Queue)
		}
		v.owned[q.Owner][q.ID] = q
	}
	v.epoch++
}

// queueEquivalent checks, in RabbitMQ's order, whether r describes q.
func (v *VHost) queueEquivalent(q *Queue, r DeclareQueue) *wire.Error {
	owner := uint64(0)
	if r.Exclusive {
		owner = r.Owner
	}
	if q.Owner != owner {
		return v.locked(q)
	}
	on := v.describeQueue(q.Name)
	if err := sameField("durable", on, q.Durable, r.Durable); err != nil {
		return err
	}
	if err := sameField("auto_delete", on, q.AutoDelete, r.AutoDelete); err != nil {
		return err
	}
	for _, key := range argsOf[q.Config.Type] {
		if err := sameArg(key, on, q.Args, r.Args); err != nil {
			return err
		}
	}
	return nil
}

// CheckAccess is 405 if q is exclusive to another connection than connID.
func (v *VHost) CheckAccess(q *Queue, connID uint64) *wire.Error {
	if q.Owner == 0 || q.Owner == connID {
		return nil
	}
	return v.locked(q)
}

func (v *VHost) locked(q *Queue) *wire.Error {
	return wire.ChannelError(wire.ResourceLocked, "cannot obtain exclusive access to locked %s. "+
		"It could be originally declared on another connection or the exclusive property value "+
		"does not match that of the original declaration.", v.describeQueue(q.Name))
}

// CheckDelete says whether connection connID may delete q, which has that many
// consumers and ready messages, under queue.delete's two flags.
func (v *VHost) CheckDelete(q *Queue, connID uint64, ifUnused, ifEmpty bool, consumers, messages int) *wire.Error {
	if err := v.CheckAccess(q, connID); err != nil {
		return err
	}
	if q.Config.Type == Quorum && (ifUnused || ifEmpty) {
		flag := "if-unused"
		if !ifUnused {
			flag = "if-empty"
		}
		return wire.ConnectionError(wire.NotImplemented,
			"cannot delete %s. queue.delete operations with %s flag set are not supported by quorum queues",
			v.describeQueue(q.Name), flag)
	}
	if ifUnused && consumers > 0 {
		return precondition(v.describeQueue(q.Name) + " in use")
	}
	if ifEmpty && messages > 0 {
		return precondition(v.describeQueue(q.Name) + " not empty")
	}
	return nil
}

// DeleteQueue removes a queue with its bindings. deleted is nil if there is no
// such queue, which is no error. gone are the auto-delete exchanges that lost
// their last binding with it.
func (v *VHost) DeleteQueue(name string) (deleted *Queue, gone []*Exchange) {
	q := v.queues[CleanName(name)]
	if q == nil {
		return nil, nil
	}
	delete(v.queues, q.Name)
	delete(v.queuesByID, q.ID)
	if mine := v.owned[q.Owner]; mine != nil {
		delete(mine, q.ID)
		if len(mine) == 0 {
			delete(v.owned, q.Owner)
		}
	}
	v.epoch++
	gone = v.dropIncoming(nil, &q.in)
	for i := 0; i < len(gone); i++ {
		gone = v.dropIncoming(gone, &gone[i].in)
	}
	return q, gone
}

// OwnedQueues lists the exclusive queues of a connection by id: what goes when
// it closes.
func (v *VHost) OwnedQueues(connID uint64) []*Queue {
	mine := v.owned[connID]
	if len(mine) == 0 {
		return nil
	}
	qs := make([]*Queue, 0, len(mine))
	for _, q := range mine {
		qs = append(qs, q)
	}
	slices.SortFunc(qs, func(a, b *Queue) int { return cmp.Compare(a.ID, b.ID) })
	return qs
}
