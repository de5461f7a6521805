package store

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/vfs"
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
	large := make([]byte, PublishBytes(1, 3)+blobIDBytes)
	PutPublish(large, &Published{TTLMillis: 1, Message: []byte("abc"), Blob: 0x0102030405060708}, 1)
	PutQueue(large, 0, 9, 4, true, 3)
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
		{"publish-large", large, "00 00 0100 0000000000000000 0100000000000000" +
			"0900000000000000 0500000000000000 03000000 0807060504030201 616263"},
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
	for typ, name := range map[uint8]string{1: "publish", 2: "settled", 3: "delivered", 4: "returned", 6: "publish-large", 5: "died", 10: "queue", 11: "queue-gone",
		12: "exchange", 13: "exchange-gone", 14: "binding", 15: "binding-gone", 16: "counters"} {
		if TypeName(typ) != name {
			t.Errorf("type %d is %s, want %s", typ, TypeName(typ), name)
		}
	}
}

// TestCheckpointFormat holds the bytes of a checkpoint and of a page file, but for
// the checksums, which every reader checks.
func TestCheckpointFormat(t *testing.T) {
	fsys := vfs.NewMem()
	d, _ := openListening(t, fsys)
	defer d.Abandon()
	const place = 1<<63 | 3<<36 | 64
	img := queue.Image{Level: 1, Number: 2, Entries: make([]queue.Entry, queue.PageLen), Deadlines: make([]queue.Time, queue.PageLen)}
	for i, at := range []int{0, 65} {
		img.Live[at/64] |= 1 << (at % 64)
		img.Entries[at] = queue.Entry{Ref: place + uint64(i)<<8, BodyBytes: 5, Flags: 3}
		img.Deadlines[at] = []queue.Time{7, queue.Never}[i]
	}
	img.Tries = []queue.ImageTries{{Index: 65, Tries: queue.Tries{Returned: 4, Failed: 2}}}
	cold, err := d.SpillPages(9, []queue.Image{img})
	if err != nil {
		t.Fatal(err)
	}
	plain := queue.Image{Entries: make([]queue.Entry, queue.PageLen)}
	plain.Live[3], plain.Entries[255] = 1<<63, queue.Entry{Ref: place, BodyBytes: 5, Flags: 1}
	c, err := d.BeginCheckpoint(1)
	if err != nil {
		t.Fatal(err)
	}
	c.Define([]Definition{{Kind: Counters, ID: 9}})
	c.Tails(9, []uint64{256, 768})
	c.Page(9, &plain)
	cold[0].Messages, cold[0].BodyBytes, cold[0].Expiring = 2, 10, true
	c.Page(9, &queue.Image{Level: 1, Number: 2, Cold: cold[0]})
	d.blobs.restore(place|blobRef, 0x0102030405060708, 1)
	c.Blobs()
	if err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	const page = "0900000000000000 01 0200000000000000 0100000000000000 0200000000000000 0000000000000000 0000000000000000 05" +
		"4000000030000080 05000000 03000000 0700000000000000 00000000 00000000" +
		"4001000030000080 05000000 03000000 ffffffffffffff7f 04000000 02000000"
	for name, want := range map[string][]string{
		"ckpt-1": {
			"01 03000000 0100000000000000",
			"02 10 0900000000000000",
			"03 0900000000000000 0001000000000000 0003000000000000",
			"04 0900000000000000 00 0000000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000080 00" +
				"4000000030000080 05000000 01000000",
			"06 0900000000000000 01 0200000000000000 0200 01 0a00000000000000 01000000 15000000 7b000000 03000000 0200",
			"07 4000000038000080 0807060504030201",
			"05 0600000000000000",
		},
		"pages-1": {"01 03000000 0000000000000000", "04" + page},
	} {
		list := sectionsOf(t, fsys, name)
		if len(list) != len(want) {
			t.Errorf("%s has %d sections, want %d", name, len(list), len(want))
		}
		for i, got := range list {
			if want := strings.ReplaceAll(want[min(i, len(want)-1)], " ", ""); got != want {
				t.Errorf("%s, section %d:\n got %s\nwant %s", name, i, got, want)
			}
		}
	}
}

// sectionsOf cuts a file into sections: type and payload in hexadecimal.
func sectionsOf(t *testing.T, fsys vfs.FS, name string) (list []string) {
	t.Helper()
	f, err := fsys.OpenRead("/data/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	b := make([]byte, size)
	if err == nil {
		_, err = f.ReadAt(b, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 {
		n := 5 + int(binary.LittleEndian.Uint32(b))
		if got := binary.LittleEndian.Uint32(b[n:]); got != crc32.Checksum(b[:n], crc32.MakeTable(crc32.Castagnoli)) {
			t.Errorf("%s, section %d: checksum %x", name, len(list), got)
		}
		list = append(list, hex.EncodeToString(b[4:n]))
		b = b[n+4:]
	}
	return list
}
