package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/warrenmq/warren/reliable/dedup"
)

// errDamaged marks a record that is not one of this package. Its key stays refused until it is deleted: to take
// it for absent could repeat what was done.
var errDamaged = errors.New("damaged record")

// recordVersion is the first byte of every record.
const recordVersion = 1

// encodeKey puts the length of the consumer's name in front, so that no two keys are the same bytes.
func encodeKey(key dedup.Key) []byte {
	name := binary.AppendUvarint(make([]byte, 0, 2+len(key.Consumer)+len(key.ID)), uint64(len(key.Consumer)))
	return append(append(name, key.Consumer...), key.ID...)
}

// encodeRecord writes version, done, generation, number, lease, keep, token.
func encodeRecord(r dedup.Record) []byte {
	value := append(make([]byte, 0, 48+len(r.Token)), recordVersion, 0)
	if r.Done {
		value[1] = 1
	}
	value = binary.AppendUvarint(value, uint64(r.Attempt.Generation))
	value = binary.AppendUvarint(value, uint64(r.Attempt.Number))
	value = binary.AppendUvarint(value, uint64(r.LeaseUntilMicros))
	value = binary.AppendUvarint(value, uint64(r.KeepUntilMicros))
	return append(value, r.Token...)
}

func decodeRecord(value []byte) (r dedup.Record, err error) {
	if len(value) < 2 || value[0] != recordVersion || value[1] > 1 {
		return r, fmt.Errorf("%w: it begins with %x", errDamaged, value[:min(len(value), 2)])
	}
	r.Done = value[1] == 1
	rest := value[2:]
	var numbers [4]int64
	for i := range numbers {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n > 1<<62 {
			return dedup.Record{}, fmt.Errorf("%w: number %d of %x", errDamaged, i, value)
		}
		numbers[i], rest = int64(n), rest[size:]
	}
	r.Attempt = dedup.Attempt{Generation: int(numbers[0]), Number: int(numbers[1])}
	r.LeaseUntilMicros, r.KeepUntilMicros, r.Token = numbers[2], numbers[3], string(rest)
	return r, nil
}
