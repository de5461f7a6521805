package engine

import "github.com/warrenmq/warren/internal/wire"

// Some messages are in memory and in no queue yet: those of open transactions, and
// bodies of which a part is still to come. The memory alarm does not count them,
// because holding the connections that have them would not make them less: the end
// of a transaction or a body could not be read any more. They have bounds of their
// own, over all connections, and whoever goes beyond is closed. Without a memory
// limit there are none.

// growTx counts bytes that an open transaction takes in. It reports false, and has
// counted nothing, if all open transactions would hold more than half of the memory
// limit and more than a single one may.
func (a *alarm) growTx(bytes int) bool {
	now := a.inTx.Add(int64(bytes))
	if a.limit > 0 && now > a.maxInTx() {
		a.inTx.Add(-int64(bytes))
		return false
	}
	return true
}

func (a *alarm) maxInTx() int64 { return max(a.limit/2, MaxTxBytes) }

// Coming tells how many bytes the connection holds of bodies that are still to be
// completed. The error closes the connection: all connections would hold more than
// the memory limit in them, and more than leastBytes.
func (c *Conn) Coming(bytes, leastBytes int64) *wire.Error {
	grown := bytes - c.coming
	if grown == 0 {
		return nil
	}
	a := c.e.alarm
	c.coming = bytes
	now := a.coming.Add(grown)
	if most := max(a.limit, leastBytes); a.limit > 0 && grown > 0 && now > most {
		return wire.ConnectionError(wire.ResourceError,
			"bodies that are not complete hold more than %d bytes of the broker's memory", most)
	}
	return nil
}
