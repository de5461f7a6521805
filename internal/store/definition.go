package store

import (
	"encoding/binary"
	"fmt"

	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/wire"
)

// Definition is a durable queue, exchange or binding. Which fields count
// depends on Kind.
//
//	queue:            id u64 | flags u8 | vhost | name | arguments
//	queue gone:       id u64
//	exchange:         flags u8 | vhost | name | type | arguments
//	exchange gone:    vhost | name
//	binding and gone: flags u8 (1: to an exchange) | vhost | source | destination | key | arguments
//	counters:         last queue id u64
//
// Strings are a u16 length and bytes; arguments are an AMQP field table.
type Definition struct {
	Kind       DefinitionKind
	ID         uint64 // of a queue; of counters, the last id given out
	VHost      string
	Name       string // of a queue or exchange; a binding's destination
	Type       string // of an exchange
	Source     string
	Key        string
	AutoDelete bool
	Internal   bool
	ToExchange bool
	Args       wire.Table
}

// DefinitionKind says what a Definition defines, or ends.
type DefinitionKind uint8

const (
	QueueDeclared    DefinitionKind = recQueue
	QueueDeleted     DefinitionKind = recQueueGone
	ExchangeDeclared DefinitionKind = recExchange
	ExchangeDeleted  DefinitionKind = recExchangeGone
	Bound            DefinitionKind = recBinding
	Unbound          DefinitionKind = recBindingGone
	Counters         DefinitionKind = recCounters
)

const (
	defAutoDelete = 1 << iota
	defInternal
	defToExchange
)

func (d *Definition) flags() (f uint8) {
	if d.AutoDelete {
		f |= defAutoDelete
	}
	if d.Internal {
		f |= defInternal
	}
	if d.ToExchange {
		f |= defToExchange
	}
	return f
}

func appendText(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(s))), s...)
}

func (d *Definition) encode() []byte {
	var b []byte
	switch d.Kind {
	case QueueDeclared:
		b = append(binary.LittleEndian.AppendUint64(b, d.ID), d.flags())
		b = wire.AppendTable(appendText(appendText(b, d.VHost), d.Name), d.Args)
	case QueueDeleted, Counters:
		b = binary.LittleEndian.AppendUint64(b, d.ID)
	case ExchangeDeclared:
		b = append(b, d.flags())
		b = wire.AppendTable(appendText(appendText(appendText(b, d.VHost), d.Name), d.Type), d.Args)
	case ExchangeDeleted:
		b = appendText(appendText(b, d.VHost), d.Name)
	case Bound, Unbound:
		b = append(b, d.flags())
		b = appendText(appendText(appendText(appendText(b, d.VHost), d.Source), d.Name), d.Key)
		b = wire.AppendTable(b, d.Args)
	}
	return b
}

// definitionReader takes a payload apart; bad is set once it is too short.
type definitionReader struct {
	b   []byte
	bad bool
}

func (r *definitionReader) take(n int) []byte {
	if n > len(r.b) {
		r.bad = true
		return make([]byte, n)
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *definitionReader) u64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }
func (r *definitionReader) u8() uint8   { return r.take(1)[0] }
func (r *definitionReader) text() string {
	return string(r.take(int(binary.LittleEndian.Uint16(r.take(2)))))
}

func (r *definitionReader) table() wire.Table {
	t, n, err := wire.ParseTable(r.b)
	if err != nil {
		r.bad = true
		return nil
	}
	r.b = r.b[n:]
	return t
}

func parseDefinition(kind uint8, payload []byte) (d Definition, err error) {
	r := definitionReader{b: payload}
	d.Kind = DefinitionKind(kind)
	flags := func() {
		f := r.u8()
		d.AutoDelete, d.Internal, d.ToExchange = f&defAutoDelete != 0, f&defInternal != 0, f&defToExchange != 0
	}
	switch d.Kind {
	case QueueDeclared:
		d.ID = r.u64()
		flags()
		d.VHost, d.Name, d.Args = r.text(), r.text(), r.table()
	case QueueDeleted, Counters:
		d.ID = r.u64()
	case ExchangeDeclared:
		flags()
		d.VHost, d.Name, d.Type, d.Args = r.text(), r.text(), r.text(), r.table()
	case ExchangeDeleted:
		d.VHost, d.Name = r.text(), r.text()
	case Bound, Unbound:
		flags()
		d.VHost, d.Source, d.Name, d.Key, d.Args = r.text(), r.text(), r.text(), r.text(), r.table()
	default:
		return d, fmt.Errorf("%w: type %d", ErrFormat, kind)
	}
	if r.bad || len(r.b) > 0 {
		return d, fmt.Errorf("%w: definition of type %d with %d bytes", ErrFormat, kind, len(payload))
	}
	return d, nil
}

// Define appends definitions as one group and returns the position at which
// they are durable. As Reserve with force.
func (d *Disk) Define(defs ...Definition) seglog.LSN {
	payloads := make([][]byte, len(defs))
	bytes := 0
	for i := range defs {
		payloads[i] = defs[i].encode()
		bytes += len(payloads[i]) + seglog.RecordOverhead
	}
	r := d.log.Reserve(len(defs), bytes, true)
	for i, p := range payloads {
		b, _, _ := r.Add(uint8(defs[i].Kind), len(p))
		copy(b, p)
	}
	return r.Done()
}
