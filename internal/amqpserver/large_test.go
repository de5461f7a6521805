package amqpserver

import (
	"bytes"
	"hash/crc32"
	"os"
	"strings"
	"testing"

	"github.com/warrenmq/warren/internal/engine"
	"github.com/warrenmq/warren/internal/vfs"
	"github.com/warrenmq/warren/internal/wire"
)

// durableRig is a server with a data directory.
func durableRig(t testing.TB, c Config) (r *rig, dir string) {
	t.Helper()
	dir = t.TempDir()
	return newRigOn(t, c, engine.Config{Disk: &engine.DiskConfig{FS: vfs.OS{}, Dir: dir}}, quietBeat), dir
}

// publishHead is the frames of a persistent publish to a queue, without the body.
func publishHead(channel uint16, queue string, bodyBytes uint64) []byte {
	b := wire.AppendMethodFrame(nil, channel, &wire.BasicPublish{RoutingKey: queue})
	p := wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: 2}
	return wire.AppendHeaderFrame(b, channel, bodyBytes, p.AppendTo(nil))
}

func bodyFrame(channel uint16, payload []byte) []byte {
	b, mark := wire.BeginFrame(nil, wire.FrameBody, channel)
	return wire.EndFrame(append(b, payload...), mark)
}

// receiveBody reads one content and returns its size and checksum.
func (c *raw) receiveBody(frameMax int) (n uint64, sum uint32) {
	c.t.Helper()
	for want := uint64(1); n < want; {
		f, err := c.frame()
		if err != nil {
			c.t.Fatal(err)
		}
		switch f.Type {
		case wire.FrameHeader:
			h, err := wire.ScanHeader(f.Payload)
			if err != nil {
				c.t.Fatal(err)
			}
			want = h.BodySize
		case wire.FrameBody:
			if len(f.Payload)+wire.FrameOverhead > frameMax {
				c.t.Fatalf("a frame of %d bytes, at most %d were agreed", len(f.Payload)+wire.FrameOverhead, frameMax)
			}
			n += uint64(len(f.Payload))
			sum = crc32.Update(sum, crc32.IEEETable, f.Payload)
		}
	}
	return n, sum
}

// TestLargeBodiesNeedLittleMemory sends two bodies of 48 MiB at the same time, frame
// by frame on two channels of a connection, to a client with the smallest frames
// there are: what the server needs meanwhile does not depend on their size.
func TestLargeBodiesNeedLittleMemory(t *testing.T) {
	r, _ := durableRig(t, Config{MaxMessageBytes: 64 << 20})
	pub := r.open(t, tuning{})
	pub.call(1, &wire.QueueDeclare{Queue: "q", Durable: true}, wire.IDQueueDeclareOk)
	pub.call(1, &wire.ConfirmSelect{}, wire.IDConfirmSelectOk)
	pub.call(2, &wire.ChannelOpen{}, wire.IDChannelOpenOk)
	pub.call(2, &wire.ConfirmSelect{}, wire.IDConfirmSelectOk)
	const bodyBytes, frames = 48 << 20, 384
	before := liveHeapBytes()
	most := int64(0)
	var sums [2]uint32
	pub.write(publishHead(1, "q", bodyBytes))
	pub.write(publishHead(2, "q", bodyBytes))
	payload := make([]byte, bodyBytes/frames)
	for i := range frames {
		for ch := range 2 {
			for k := range payload {
				payload[k] = byte(k*(ch+3) + i)
			}
			sums[ch] = crc32.Update(sums[ch], crc32.IEEETable, payload)
			for _, part := range [][]byte{payload[:1000], payload[1000:60_000], payload[60_000:]} {
				pub.write(bodyFrame(uint16(ch+1), part))
			}
		}
		if i%64 == 0 {
			most = max(most, liveHeapBytes()-before)
		}
	}
	for range 2 {
		pub.await(wire.IDBasicAck)
	}
	con := r.open(t, tuning{frameMax: 4096})
	con.send(1, &wire.BasicConsume{Queue: "q", ConsumerTag: "t", NoAck: true})
	got := map[uint32]uint64{}
	for range 2 {
		n, sum := con.receiveBody(4096)
		got[sum] = n
		most = max(most, liveHeapBytes()-before)
	}
	if got[sums[0]] != bodyBytes || got[sums[1]] != bodyBytes {
		t.Errorf("the bodies have come changed: %v, want %v", got, sums)
	}
	if most > 8<<20 {
		t.Errorf("%d bytes of memory for bodies of %d", most, bodyBytes)
	}
}

// TestUploadIsCut ends a connection in the middle of a large body: no file is left,
// and the next one is served.
func TestUploadIsCut(t *testing.T) {
	r, dir := durableRig(t, Config{})
	blobs := func() (n int) {
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if strings.HasPrefix(f.Name(), "blob-") {
				n++
			}
		}
		return n
	}
	for _, how := range []string{"cut", "channel closed", "too long", "another publish"} {
		c := r.open(t, tuning{})
		c.call(1, &wire.QueueDeclare{Queue: "q", Durable: true}, wire.IDQueueDeclareOk)
		c.write(publishHead(1, "q", 1<<20))
		c.write(bodyFrame(1, bytes.Repeat([]byte("x"), 100_000)))
		eventually(t, "the body is on its way to a file", func() bool { return blobs() == 1 })
		switch how {
		case "channel closed":
			c.send(2, &wire.ChannelOpen{})
			c.send(2, &wire.ChannelOpen{}) // an error of the connection
		case "too long":
			for range 10 {
				c.write(bodyFrame(1, make([]byte, 120_000)))
			}
		case "another publish":
			c.write(publishHead(1, "q", 1<<20))
		}
		c.Close()
		eventually(t, how+": no file is left", func() bool { return blobs() == 0 })
	}
	c := r.open(t, tuning{})
	body := bytes.Repeat([]byte("0123456789"), 100_000)
	c.write(publishHead(1, "q", uint64(len(body))))
	for at := 0; at < len(body); at += 100_000 {
		c.write(bodyFrame(1, body[at:at+100_000]))
	}
	c.send(1, &wire.BasicGet{Queue: "q", NoAck: true})
	if n, sum := c.receiveBody(131072); n != uint64(len(body)) || sum != crc32.ChecksumIEEE(body) {
		t.Errorf("%d bytes have come, or other ones", n)
	}
}
