package store

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/wire"
)

// TestRecordFormat holds the bytes of every record type as docs/format/store.md
// has them. A change here is a change of the format: records in directories of
// today have to be read for ever.
func TestRecordFormat(t *testing.T) {
	publish := make([]byte, PublishBytes(2, 3))
	PutPublish(publish, &Published{Flags: 5, Priority: 7, Time: 0x0102030405060708, TTLMillis: -1, Message: []byte("abc")}, 2)
	PutQueue(publish, 0, 9, 4, true, 3)
	PutQueue(publish, 1, 10, 0, false, 0)
	facts := make([]byte, factsFixedBytes+2*factBytes)
	putFacts(facts, 9, []queue.Fact{{Kind: queue.Settled, Seq: 1, To: 2}, {Kind: queue.Delivered, Seq: 8}, {Kind: queue.Settled, Seq: 5, To: 5}}, 0)
	returned := make([]byte, factsFixedBytes+factBytes)
	putFacts(returned, 9, []queue.Fact{{Kind: queue.Returned, Seq: 1, Tries: queue.Tries{Returned: 6, Failed: 2}}}, 2)
	define := func(d Definition) []byte { return d.encode() }
	args := wire.Table{{Key: "k", Value: true}}
	for _, x := range []struct {
		name string
		got  []byte
		want string
	}{
		{"publish", publish, "05 07 0200 0807060504030201 ffffffffffffffff" +
			"0900000000000000 0500000000000000 03000000 0a00000000000000 0000000000000000 00000000 616263"},
		{"settled", facts, "0900000000000000 0100000000000000 0200000000000000 0500000000000000 0500000000000000"},
		{"returned", returned, "0900000000000000 0100000000000000 06000000 02000000"},
		{"queue", define(Definition{Kind: QueueDeclared, ID: 9, VHost: "/", Name: "q", AutoDelete: true, Args: args}),
			"0900000000000000 01 01002f 010071 00000004 016b7401"},
		{"queue-gone", define(Definition{Kind: QueueDeleted, ID: 9}), "0900000000000000"},
		{"exchange", define(Definition{Kind: ExchangeDeclared, VHost: "/", Name: "x", Type: "topic", Internal: true}),
			"02 01002f 010078 0500746f706963 00000000"},
		{"exchange-gone", define(Definition{Kind: ExchangeDeleted, VHost: "/", Name: "x"}), "01002f 010078"},
		{"binding", define(Definition{Kind: Bound, VHost: "/", Source: "x", Name: "y", Key: "k", ToExchange: true}),
			"04 01002f 010078 010079 01006b 00000000"},
		{"binding-gone", define(Definition{Kind: Unbound, VHost: "/", Source: "x", Name: "q"}), "00 01002f 010078 010071 0000 00000000"},
		{"counters", define(Definition{Kind: Counters, ID: 9}), "0900000000000000"},
	} {
		if got, want := hex.EncodeToString(x.got), strings.ReplaceAll(x.want, " ", ""); got != want {
			t.Errorf("%s:\n got %s\nwant %s", x.name, got, want)
		}
	}
	for typ, name := range map[uint8]string{1: "publish", 2: "settled", 3: "delivered", 4: "returned", 5: "died", 10: "queue", 11: "queue-gone",
		12: "exchange", 13: "exchange-gone", 14: "binding", 15: "binding-gone", 16: "counters"} {
		if TypeName(typ) != name {
			t.Errorf("type %d is %s, want %s", typ, TypeName(typ), name)
		}
	}
}
