package wire

import "encoding/binary"

// PublishView is basic.publish without a copy: the strings alias the payload.
type PublishView struct {
	Exchange   []byte
	RoutingKey []byte
	Mandatory  bool
	Immediate  bool
}

// ScanPublish reads the payload of a method frame as basic.publish. ok is
// false if it is another method or does not decode; DecodeMethod then says
// what it is. It allocates nothing.
func ScanPublish(payload []byte) (v PublishView, ok bool) {
	// Ids, ticket, and the length octet of the exchange's name.
	if len(payload) < 7 || binary.BigEndian.Uint32(payload) != uint32(IDBasicPublish) {
		return PublishView{}, false
	}
	key := 7 + int(payload[6])
	if key >= len(payload) {
		return PublishView{}, false
	}
	end := key + 1 + int(payload[key])
	if end+1 != len(payload) {
		return PublishView{}, false
	}
	bits := payload[end]
	return PublishView{
		Exchange:   payload[7:key:key],
		RoutingKey: payload[key+1 : end : end],
		Mandatory:  bits&1 != 0,
		Immediate:  bits&2 != 0,
	}, true
}

// ScanAck reads the payload of a method frame as basic.ack. ok is false if it
// is another method or does not decode. It allocates nothing.
func ScanAck(payload []byte) (tag uint64, multiple, ok bool) {
	if len(payload) != 13 || binary.BigEndian.Uint32(payload) != uint32(IDBasicAck) {
		return 0, false, false
	}
	return binary.BigEndian.Uint64(payload[4:]), payload[12]&1 != 0, true
}
