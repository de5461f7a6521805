package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/seglog"
)

// Record types in the log. They, the payloads below and recordVersion are part
// of the on-disk format (docs/format/store.md).
const (
	recPublish      = 1
	recSettled      = 2
	recDelivered    = 3
	recReturned     = 4
	recDied         = 5
	recPublishLarge = 6
	recQueue        = 10
	recQueueGone    = 11
	recExchange     = 12
	recExchangeGone = 13
	recBinding      = 14
	recBindingGone  = 15
	recCounters     = 16
)

// ErrFormat is the error for a record that this version does not understand.
// Nothing is skipped: a newer program may have written it.
var ErrFormat = errors.New("store: a record that this version does not understand")

// Publish record:
//
//	0 flags u8 | 1 priority u8 | 2 queues u16 | 4 enqueue time, Unix ns i64
//	12 time to live, ms i64, -1 for none
//	20 per queue: queue id u64 | seq + 1 u64, 0 if the queue did not take it | count u32
//	   the message: the frames of its publish, back to back
//
// A large publish record is the same, but for the blob's id u64 before the message,
// which has no body frames.
const (
	publishFixedBytes = 20
	publishQueueBytes = 20
	blobIDBytes       = 8 // that a large one has more
)

// MaxQueues is how many queues a publish record can name.
const MaxQueues = 1<<16 - 1

// PublishBytes is the payload of a publish record, that of a large one without
// the blob.
func PublishBytes(queues, messageBytes int) int {
	return publishFixedBytes + queues*publishQueueBytes + messageBytes
}

// Published is one message as it is logged.
type Published struct {
	Flags     uint8 // the caller's, kept as they are
	Priority  uint8
	Time      queue.Time // of the enqueue; deadlines count from it
	TTLMillis int64
	Message   []byte // aliases the record
	Blob      uint64 // the id of the blob with its body, 0 if Message has it
	payload   []byte
}

// PutPublish fills a publish record's payload, all but the queues.
func PutPublish(payload []byte, p *Published, queues int) {
	payload[0], payload[1] = p.Flags, p.Priority
	binary.LittleEndian.PutUint16(payload[2:], uint16(queues))
	binary.LittleEndian.PutUint64(payload[4:], uint64(p.Time))
	binary.LittleEndian.PutUint64(payload[12:], uint64(p.TTLMillis))
	rest := payload[publishFixedBytes+queues*publishQueueBytes:]
	if p.Blob != 0 {
		binary.LittleEndian.PutUint64(rest, p.Blob)
		rest = rest[blobIDBytes:]
	}
	copy(rest, p.Message)
}

// PutQueue fills in the i-th queue: under which seq it took the message.
func PutQueue(payload []byte, i int, id queue.ID, seq queue.Seq, taken bool, count uint32) {
	b := payload[publishFixedBytes+i*publishQueueBytes:]
	binary.LittleEndian.PutUint64(b, uint64(id))
	n := uint64(0)
	if taken {
		n = uint64(seq) + 1
	}
	binary.LittleEndian.PutUint64(b[8:], n)
	binary.LittleEndian.PutUint32(b[16:], count)
}

func parsePublish(typ uint8, payload []byte) (p Published, err error) {
	if len(payload) < publishFixedBytes {
		return p, fmt.Errorf("%w: a publish of %d bytes", ErrFormat, len(payload))
	}
	p.Flags, p.Priority = payload[0], payload[1]
	p.Time = queue.Time(binary.LittleEndian.Uint64(payload[4:]))
	p.TTLMillis = int64(binary.LittleEndian.Uint64(payload[12:]))
	body := publishFixedBytes + p.queues(payload)*publishQueueBytes
	if typ == recPublishLarge {
		body += blobIDBytes
	}
	if body > len(payload) {
		return p, fmt.Errorf("%w: a publish of %d bytes to %d queues", ErrFormat, len(payload), p.queues(payload))
	}
	if typ == recPublishLarge {
		p.Blob = binary.LittleEndian.Uint64(payload[body-blobIDBytes:])
	}
	p.payload = payload
	p.Message = payload[body:]
	return p, nil
}

// BlobName is the file with the message's body, "" if the record has it.
func (p *Published) BlobName() string {
	if p.Blob == 0 {
		return ""
	}
	return blobName(p.Blob)
}

func (p *Published) queues(payload []byte) int { return int(binary.LittleEndian.Uint16(payload[2:])) }

// Queues calls f for every queue that took the message.
func (p *Published) Queues(f func(id queue.ID, seq queue.Seq, count uint32)) {
	for i := range p.queues(p.payload) {
		b := p.payload[publishFixedBytes+i*publishQueueBytes:]
		if n := binary.LittleEndian.Uint64(b[8:]); n > 0 {
			f(queue.ID(binary.LittleEndian.Uint64(b)), queue.Seq(n-1), binary.LittleEndian.Uint32(b[16:]))
		}
	}
}

// messageOf is the message of a publish record that has been checked.
func messageOf(typ uint8, payload []byte) []byte {
	at := publishFixedBytes + int(binary.LittleEndian.Uint16(payload[2:]))*publishQueueBytes
	if typ == recPublishLarge {
		at += blobIDBytes
	}
	return payload[at:]
}

// publishRef is the reference to the message of a publish record.
func publishRef(e seglog.Entry) Ref {
	if e.Type == recPublishLarge {
		return refAt(e.Place) | blobRef
	}
	return refAt(e.Place)
}

// Settled, delivered, returned and died records:
//
//	0 queue id u64 | then for each range: first seq u64 | last seq u64
//	   (returned: seq u64 | times it has come back u32 | of these, failed u32;
//	   died: seq u64 | reason u64)
const (
	factsFixedBytes = 8
	factBytes       = 16
)

// factRecords counts the records and payload bytes that facts need, by type.
func factRecords(facts []queue.Fact) (counts [4]int) {
	for i := range facts {
		if t := factType(facts[i].Kind); t >= 0 {
			counts[t]++
		}
	}
	return counts
}

var factTypes = [4]uint8{recSettled, recDelivered, recReturned, recDied}

// factType is the index into factTypes, -1 for facts that publish records hold.
func factType(k queue.FactKind) int {
	switch k {
	case queue.Settled:
		return 0
	case queue.Delivered:
		return 1
	case queue.Returned:
		return 2
	case queue.Died:
		return 3
	}
	return -1
}

func putFacts(payload []byte, q queue.ID, facts []queue.Fact, typ int) {
	binary.LittleEndian.PutUint64(payload, uint64(q))
	b := payload[factsFixedBytes:]
	for i := range facts {
		f := &facts[i]
		if factType(f.Kind) != typ {
			continue
		}
		binary.LittleEndian.PutUint64(b, uint64(f.Seq))
		second := uint64(f.To)
		switch f.Kind {
		case queue.Returned:
			second = uint64(f.Tries.Failed)<<32 | uint64(f.Tries.Returned)
		case queue.Died:
			second = uint64(f.Reason)
		}
		binary.LittleEndian.PutUint64(b[8:], second)
		b = b[factBytes:]
	}
}

// triesOf is the second number of a returned record.
func triesOf(n uint64) queue.Tries { return queue.Tries{Returned: uint32(n), Failed: uint32(n >> 32)} }

// parseFacts calls f for each pair of such a record.
func parseFacts(payload []byte, f func(q queue.ID, a, b uint64) error) error {
	if len(payload) < factsFixedBytes || (len(payload)-factsFixedBytes)%factBytes != 0 {
		return fmt.Errorf("%w: facts of %d bytes", ErrFormat, len(payload))
	}
	q := queue.ID(binary.LittleEndian.Uint64(payload))
	for b := payload[factsFixedBytes:]; len(b) > 0; b = b[factBytes:] {
		if err := f(q, binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])); err != nil {
			return err
		}
	}
	return nil
}
