package message

import "github.com/warrenmq/warren/internal/wire"

// ExtraKeys returns the routing keys of the CC and BCC headers (RabbitMQ's
// sender-selected distribution) and whether there is a BCC header, which is not
// shown to receivers. raw is the header table without its length. A header that
// is not an array is RabbitMQ's 406; what is no string in it is passed over.
func ExtraKeys(dst []string, raw []byte) (keys []string, hasBCC bool, err *wire.Error) {
	for _, name := range [...]string{"CC", "BCC"} {
		v, ok := wire.TableLookup(raw, name)
		if !ok {
			continue
		}
		hasBCC = hasBCC || name == "BCC"
		list, ok := v.(wire.Array)
		if !ok {
			return nil, false, badKeys(name, v)
		}
		for _, k := range list {
			if s, ok := k.(string); ok {
				dst = append(dst, s)
			}
		}
	}
	return dst, hasBCC, nil
}

func badKeys(name string, v any) *wire.Error {
	return wire.ChannelError(wire.PreconditionFailed,
		"invalid message: {unacceptable_type_in_header,\"%s\",%s}", name, wire.TypeName(v))
}

// WithoutBCC appends a copy of r without its BCC header: what receivers see.
func (r Record) WithoutBCC(dst []byte) (Record, error) {
	p, err := r.Properties()
	if err != nil {
		return nil, err
	}
	p.Headers = p.Headers.Delete("BCC")
	return r.Rewrite(dst, string(r.Exchange()), string(r.Key()), &p), nil
}
