package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/warrenmq/warren/internal/vfs"
)

// Upload writes a blob. It belongs to one goroutine, which holds no locks: every
// call may block on the disk. It ends with Finish or Abort.
type Upload struct {
	blob  *Blob
	f     vfs.File
	bytes int64  // of the body
	buf   []byte // less than a piece, after at
	at    int64  // of the body, written
	crcs  []byte
	err   error
}

// BeginBlob begins a blob for a body of that size.
func (d *Disk) BeginBlob(bodyBytes int64) (*Upload, error) {
	b := d.blobs.newBlob()
	f, err := d.cfg.FS.Create(d.blobs.path(b.id))
	if err != nil {
		d.blobs.remove(b)
		return nil, fmt.Errorf("make %s: %w", blobName(b.id), err)
	}
	u := &Upload{blob: b, f: f, bytes: bodyBytes, buf: make([]byte, 0, min(bodyBytes, blobPieceBytes))}
	if err := u.begin(); err != nil {
		u.Abort()
		return nil, err
	}
	return u, nil
}

// begin writes the header.
func (u *Upload) begin() error {
	id := u.blob.id
	le := binary.LittleEndian
	head := append(make([]byte, 0, blobHeaderBytes), blobMagic...)
	head = le.AppendUint64(le.AppendUint32(head, blobVersion), id)
	head = le.AppendUint32(le.AppendUint64(head, uint64(u.bytes)), blobPieceBytes)
	head = le.AppendUint32(head, blobCRC(id, head))
	if _, err := u.f.WriteAt(head, 0); err != nil {
		return fmt.Errorf("write %s: %w", blobName(id), err)
	}
	return nil
}

// Write adds to the body. After an error nothing more is written, and Finish fails
// too.
func (u *Upload) Write(b []byte) error {
	for len(b) > 0 && u.err == nil {
		n := min(len(b), blobPieceBytes-len(u.buf))
		u.buf = append(u.buf, b[:n]...)
		b = b[n:]
		if len(u.buf) == blobPieceBytes {
			u.flush()
		}
	}
	return u.err
}

func (u *Upload) flush() {
	if u.err != nil || len(u.buf) == 0 {
		return
	}
	u.crcs = binary.LittleEndian.AppendUint32(u.crcs, blobCRC(u.blob.id, u.buf))
	if _, err := u.f.WriteAt(u.buf, blobHeaderBytes+u.at); err != nil {
		u.err = fmt.Errorf("write %s: %w", blobName(u.blob.id), err)
		return
	}
	u.at += int64(len(u.buf))
	u.buf = u.buf[:0]
}

// Finish ends the blob: it can be read from then on. durable says that it has to
// survive, because a record will name it. The caller has one reference to it.
// After an error there is no blob, and the caller calls Abort.
func (u *Upload) Finish(durable bool) (*Blob, error) {
	u.flush()
	if u.err == nil && u.at != u.bytes {
		u.err = fmt.Errorf("store: %s has %d bytes of %d", blobName(u.blob.id), u.at, u.bytes)
	}
	if u.err != nil {
		return nil, u.err
	}
	u.crcs = binary.LittleEndian.AppendUint32(u.crcs, blobCRC(u.blob.id, u.crcs))
	_, u.err = u.f.WriteAt(u.crcs, blobHeaderBytes+u.at)
	if u.err == nil && durable {
		u.err = u.f.Sync()
	}
	if err := u.f.Close(); u.err == nil {
		u.err = err
	}
	u.f = nil
	s := u.blob.all
	if u.err == nil && durable {
		u.err = s.fs.SyncDir(s.dir)
	}
	if u.err != nil {
		u.err = fmt.Errorf("write %s: %w", blobName(u.blob.id), u.err)
		return nil, u.err
	}
	u.blob.setVerified(true)
	return u.blob, nil
}

// Abort gives the blob up, with its file. After Finish it does nothing but after
// one that has failed.
func (u *Upload) Abort() {
	if u.f == nil && u.err == nil {
		return
	}
	if u.f != nil {
		u.f.Close() // nobody will read it
		u.f = nil
	}
	u.err = errAborted
	u.blob.all.remove(u.blob)
}

var errAborted = errors.New("store: the blob has been given up")

// remove takes a blob away that no record has named.
func (s *blobs) remove(b *Blob) {
	s.fs.Remove(s.path(b.id)) // if it stays, the next start removes it
	s.mu.Lock()
	delete(s.byID, b.id)
	s.mu.Unlock()
}

// SweepBlobs removes the blobs that nothing refers to any more. What made it so
// has to be durable first, so it may wait for a sync. Called without locks, by one
// goroutine at a time.
func (d *Disk) SweepBlobs() error {
	idle, dead := d.blobs.takeUnused()
	if len(idle) == 0 && len(dead) == 0 {
		return nil
	}
	if err := d.WaitDurable(d.End()); err != nil {
		return err // they stay, and the next start sees what the disk says
	}
	d.blobs.discard(idle, dead)
	return nil
}

func (s *blobs) takeUnused() (idle []Ref, dead []*Blob) {
	s.mu.Lock()
	defer s.mu.Unlock()
	idle, dead = s.idle, s.dead
	s.idle, s.dead = nil, nil
	return idle, dead
}

func (s *blobs) discard(idle []Ref, dead []*Blob) {
	s.mu.Lock()
	for _, at := range idle {
		if h := s.heads[at]; h != nil && h.refs == 0 {
			delete(s.heads, at)
		}
	}
	dead = slices.DeleteFunc(dead, func(b *Blob) bool {
		if b.refs > 0 {
			return true // somebody still reads it; with the last of them it comes again
		}
		delete(s.byID, b.id)
		return false
	})
	s.mu.Unlock()
	for _, b := range dead {
		s.fs.Remove(s.path(b.id)) // if it stays, the next start removes it
	}
}
