package engine

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/wire"
)

// Large persistent bodies do not go through memory and the log: the publisher's
// reader writes them to a blob as their frames come, and syncs that, before the
// record that names it is appended. The writer of a consumer's connection streams
// them from there. The record has the message without its body; so whoever moves a
// message, moves a few hundred bytes.

const (
	// blobBytes is the body size from which on a persistent message goes to a blob.
	blobBytes = 256 << 10
	// maxUploads bounds the blobs that are being written, because each is an open
	// file. Bodies beyond it gather in memory as smaller ones do.
	maxUploads = 256
	// txBlobBytes is what a blob counts in a transaction, besides its message, so that one cannot make any number of files.
	txBlobBytes = 4096
	// bodyHeldBytes is what a body that is streamed counts in its connection's
	// output: about what it takes in memory. Two of them use up the budget.
	bodyHeldBytes = outputBudgetBytes / 2
)

// BeginUpload tells whether a body that is to come goes to a blob; Upload then takes
// it, and Publish the rest of the message. props must have been scanned.
func (ch *Channel) BeginUpload(bodyBytes uint64, props *wire.PropsView) bool {
	e := ch.conn.e
	if e.disk == nil || bodyBytes < e.blobBytes || props.DeliveryMode() != 2 {
		return false
	}
	if e.uploads.Add(1) > maxUploads {
		e.uploads.Add(-1)
		return false
	}
	up := &upload{}
	up.file, up.err = e.disk.BeginBlob(int64(bodyBytes))
	ch.upload = up
	return true
}

// upload is a body on its way to a blob.
type upload struct {
	file *store.Upload // nil if it could not be made
	blob *store.Blob   // once it is complete
	err  error         // the first; the rest of the body is dropped
}

// Upload takes some of the body that BeginUpload has announced. It blocks on the
// disk. An error is told when the message is complete.
func (ch *Channel) Upload(b []byte) {
	up := ch.upload
	if ch.conn.e.alarm.up.Load() {
		// Held in the middle of a body: a long one would fill the disk up.
		ch.conn.publishedInAlarm = true
	}
	if up.err == nil {
		up.err = up.file.Write(b)
	}
}

// finishUpload completes the blob of the message that is being published and gives
// it to the item, which holds it until endUpload.
func (ch *Channel) finishUpload(it *item, durable bool) error {
	up := ch.upload
	if up.err == nil {
		goOn := ch.conn.Out.waits()
		up.blob, up.err = up.file.Finish(durable)
		goOn()
	}
	if up.err != nil {
		ch.conn.e.logger.Error("a message body cannot be written and is refused", "bytes", it.bodyBytes, "error", up.err)
		return up.err
	}
	it.blob = up.blob
	it.flags |= queue.Pinned // what it refers to is counted
	return nil
}

// endUpload lets go of the upload, whatever has become of it.
func (ch *Channel) endUpload() {
	up := ch.upload
	if up == nil {
		return
	}
	ch.upload = nil
	ch.conn.e.uploads.Add(-1)
	if up.blob != nil {
		up.blob.Release()
	} else if up.file != nil {
		up.file.Abort()
	}
}

// refuseUpload answers a publish whose body could not be written: basic.nack if the
// channel confirms, else the channel is closed, because silence would mean that the
// message is safe. 311 says that the client may try again later.
func (ch *Channel) refuseUpload(err error) *wire.Error {
	if !ch.confirming {
		return wire.ChannelError(wire.ContentTooLarge, "the message body could not be written to disk: %v", err)
	}
	ch.nacks = append(ch.nacks, ch.confirms.Next())
	ch.joinRun()
	return nil
}

// goesToLog tells whether the persistent ones of some items go to the log: those for a
// durable queue, and those with a blob, because only a record can name it.
func goesToLog(queues []*Queue, items []item) bool {
	if anyDurable(queues) {
		return true
	}
	for i := range items {
		if items[i].blob != nil {
			return true
		}
	}
	return false
}

// dropBlobs lets go of the blobs that items hold, once the log names them or nobody
// will.
func dropBlobs(items []item) {
	for i := range items {
		if items[i].blob != nil {
			items[i].blob.Release()
			items[i].blob = nil
		}
	}
}

// evenFrames is the frame size that cuts so many bytes into frames of about equal
// size, as few as frameMax allows.
func evenFrames(bytes int, frameMax uint32) uint32 {
	most := int(frameMax) - wire.FrameOverhead
	if frameMax == 0 || bytes <= most {
		return frameMax
	}
	frames := (bytes + most - 1) / most
	return uint32((bytes+frames-1)/frames + wire.FrameOverhead)
}

// Body is a message body that a connection's writer streams from its blob.
type Body struct {
	blob   *store.Blob
	bytes  uint64
	to     message.Target
	logger *slog.Logger
}

func (b *Body) heldBytes() int64 { return int64(min(b.bytes, bodyHeldBytes)) }

// Release gives a body up; nil is none.
func (b *Body) Release() {
	if b != nil {
		b.blob.Release()
	}
}

// failed: the message comes back to its queue with the connection's end, and before
// it is handed out again the blob is read as a whole, and the message set aside.
func (b *Body) failed(err error) error {
	b.blob.Suspect()
	b.logger.Error("a message body cannot be read while it is being delivered; the connection is closed", "error", err)
	return err
}

// WriteTo writes the body's frames, each verified before. After an error, of the
// file or of w, the content is incomplete: nothing may follow it on the connection.
func (b *Body) WriteTo(w io.Writer) (n int64, err error) {
	r, err := b.blob.Open()
	if err != nil {
		return 0, b.failed(err)
	}
	defer r.Close()
	if uint64(r.Bytes()) != b.bytes {
		return 0, b.failed(fmt.Errorf("a body of %d bytes is in a file for %d", b.bytes, r.Bytes()))
	}
	var frames []byte
	for {
		part, err := r.Next()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, b.failed(err)
		}
		frames = wire.AppendBodyFrames(frames[:0], b.to.Channel, part, evenFrames(len(part), b.to.FrameMax))
		m, err := w.Write(frames)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
}
