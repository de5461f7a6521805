package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/vfs"
)

// A blob is a file with one large body:
//
//	0 magic "WRNB" | 4 version u32 | 8 id u64 | 16 body bytes u64 | 24 piece bytes u32 | 28 CRC of bytes 0 to 27
//	32 the body
//	   for each piece of the body its CRC u32 | CRC of these u32
//
// Every CRC is that of the id's eight bytes and the bytes in question. It is
// durable, with its name, before a record names it, and never changes.
const (
	blobPrefix      = "blob-"
	blobMagic       = "WRNB"
	blobVersion     = 1
	blobHeaderBytes = 32
	// blobPieceBytes is what has a checksum of its own: nothing leaves before its
	// piece has been verified.
	blobPieceBytes = 64 << 10
	// blobReadBytes is what is read at once.
	blobReadBytes = 4 * blobPieceBytes
	crcBytes      = 4
)

// BlobBytes is the room on the disk that a body takes in a blob.
func BlobBytes(bodyBytes int64) int64 {
	return blobHeaderBytes + bodyBytes + crcBytes*(blobPieces(bodyBytes)+1)
}

func blobPieces(bodyBytes int64) int64 { return (bodyBytes + blobPieceBytes - 1) / blobPieceBytes }

func blobName(id uint64) string { return fmt.Sprintf("%s%016x", blobPrefix, id) }

// blobID is the id in a name, 0 if it is not that of a blob.
func blobID(name string) uint64 {
	digits, ok := strings.CutPrefix(name, blobPrefix)
	id, err := strconv.ParseUint(digits, 16, 64)
	if !ok || err != nil || blobName(id) != name {
		return 0
	}
	return id
}

// blobCRC is the checksum of some bytes of a blob.
func blobCRC(id uint64, b []byte) uint32 {
	return crc32.Update(blobSeed(id), castagnoli, b)
}

func blobSeed(id uint64) uint32 {
	var seed [8]byte
	binary.LittleEndian.PutUint64(seed[:], id)
	return crc32.Checksum(seed[:], castagnoli)
}

// Blob is a body in a file of its own. It is counted: by each message of a queue
// that has it, and by whoever holds it meanwhile. Safe for concurrent use; only
// Open and what it returns touch the disk.
type Blob struct {
	all      *blobs
	id       uint64
	refs     int64 // under all.mu
	verified bool  // its bytes were as they should, in this run; under all.mu
}

// blobs are those of one data directory.
type blobs struct {
	fs  vfs.FS
	dir string

	mu   sync.Mutex
	byID map[uint64]*Blob
	// heads finds a message's blob by the place of its record. One that nothing
	// refers to stays until the facts that made it so are durable: a checkpoint
	// may hold the message still.
	heads map[Ref]*blobHead
	idle  []Ref   // heads without references
	dead  []*Blob // the same of blobs
}

type blobHead struct {
	blob *Blob // nil while recovery does not know it
	refs int64
}

func newBlobs(fsys vfs.FS, dir string) *blobs {
	return &blobs{fs: fsys, dir: dir, byID: map[uint64]*Blob{}, heads: map[Ref]*blobHead{}}
}

func (s *blobs) path(id uint64) string { return filepath.Join(s.dir, blobName(id)) }

// newID finds an id that no file has: random, so that it need not be remembered
// which there have been.
func (s *blobs) newBlob() *Blob {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		var b [8]byte
		rand.Read(b[:]) // never fails (crypto/rand)
		id := binary.LittleEndian.Uint64(b[:])
		if id != 0 && s.byID[id] == nil {
			s.byID[id] = &Blob{all: s, id: id, refs: 1}
			return s.byID[id]
		}
	}
}

// ID is what records name it by.
func (b *Blob) ID() uint64 { return b.id }

// Retain adds a reference; the caller has one, or a message that it knows of does.
func (b *Blob) Retain() *Blob {
	b.all.mu.Lock()
	b.refs++
	b.all.mu.Unlock()
	return b
}

// Release drops a reference. The file goes some time after the last one.
func (b *Blob) Release() { b.all.release(b, 1) }

func (s *blobs) release(b *Blob, n int64) {
	s.mu.Lock()
	s.releaseLocked(b, n)
	s.mu.Unlock()
}

func (s *blobs) releaseLocked(b *Blob, n int64) {
	if b.refs -= n; b.refs == 0 {
		s.dead = append(s.dead, b)
	}
}

// name counts the references of a record that names a blob.
func (s *blobs) name(at Ref, b *Blob, references int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heads[at] = &blobHead{b, int64(references)}
	b.refs += int64(references)
	if references == 0 {
		s.idle = append(s.idle, at)
	}
}

// drop drops references to a message.
func (s *blobs) drop(at Ref, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.heads[at]
	if h == nil {
		return // of a checkpoint, and settled before recovery knew more of it
	}
	if h.refs -= int64(n); h.refs == 0 {
		s.idle = append(s.idle, at)
	}
	if h.blob != nil {
		s.releaseLocked(h.blob, int64(n))
	}
}

// of finds the blob of a message. known is false if there is no such message any
// more.
func (s *blobs) of(at Ref) (b *Blob, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.heads[at]
	if h == nil || h.refs == 0 {
		return nil, false
	}
	return h.blob, true
}

func (s *blobs) verified(at Ref) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.heads[at]
	return h != nil && h.blob != nil && h.blob.verified
}

func (b *Blob) setVerified(ok bool) {
	b.all.mu.Lock()
	b.verified = ok
	b.all.mu.Unlock()
}

// errBlob is damage to a blob.
func errBlob(id uint64, at int64, why string) error {
	return fmt.Errorf("%w: %s at offset %d: %s", seglog.ErrDamaged, blobName(id), at, why)
}

// BlobReader reads a blob from beginning to end. It belongs to one goroutine.
type BlobReader struct {
	id    uint64
	f     vfs.File
	bytes int64 // of the body
	at    int64 // in the body
	crcs  []byte
	buf   []byte
}

// openBlob opens a blob and verifies what its pieces are verified with.
func openBlob(fsys vfs.FS, dir string, id uint64) (*BlobReader, error) {
	f, err := fsys.OpenRead(filepath.Join(dir, blobName(id)))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", seglog.ErrDamaged, blobName(id), err)
	}
	r := &BlobReader{id: id, f: f}
	if err := r.readFrame(); err != nil {
		f.Close() // read only
		return nil, err
	}
	return r, nil
}

// readFrame reads what is around the body.
func (r *BlobReader) readFrame() error {
	var head [blobHeaderBytes]byte
	if err := r.readAt(head[:], 0); err != nil {
		return err
	}
	le := binary.LittleEndian
	if string(head[:4]) != blobMagic || le.Uint64(head[8:]) != r.id || le.Uint32(head[28:]) != blobCRC(r.id, head[:28]) {
		return errBlob(r.id, 0, "no header")
	}
	if v := le.Uint32(head[4:]); v != blobVersion || le.Uint32(head[24:]) != blobPieceBytes {
		return fmt.Errorf("%w: %s has version %d", ErrFormat, blobName(r.id), v)
	}
	r.bytes = int64(le.Uint64(head[16:]))
	size, err := r.f.Size()
	if err != nil {
		return err
	}
	if r.bytes < 0 || size != BlobBytes(r.bytes) {
		return errBlob(r.id, size, "wrong size")
	}
	r.crcs = make([]byte, crcBytes*(blobPieces(r.bytes)+1))
	if err := r.readAt(r.crcs, blobHeaderBytes+r.bytes); err != nil {
		return err
	}
	end := len(r.crcs) - crcBytes
	if le.Uint32(r.crcs[end:]) != blobCRC(r.id, r.crcs[:end]) {
		return errBlob(r.id, blobHeaderBytes+r.bytes, "wrong checksums")
	}
	return nil
}

func (r *BlobReader) readAt(b []byte, at int64) error {
	n, err := r.f.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return errBlob(r.id, at, "the file ends too early")
	}
	return fmt.Errorf("read %s at %d: %w", blobName(r.id), at, err)
}

// Bytes is the size of the body.
func (r *BlobReader) Bytes() int64 { return r.bytes }

// Next returns some more of the body, verified. The slice is valid until the next
// call. The error is io.EOF at the end.
func (r *BlobReader) Next() ([]byte, error) {
	n := min(r.bytes-r.at, blobReadBytes)
	if n == 0 {
		return nil, io.EOF
	}
	if int64(cap(r.buf)) < n {
		r.buf = make([]byte, n)
	}
	b := r.buf[:n]
	if err := r.readAt(b, blobHeaderBytes+r.at); err != nil {
		return nil, err
	}
	first := r.at / blobPieceBytes
	for i := range blobPieces(n) {
		piece := b[i*blobPieceBytes : min((i+1)*blobPieceBytes, n)]
		if binary.LittleEndian.Uint32(r.crcs[crcBytes*(first+i):]) != blobCRC(r.id, piece) {
			return nil, errBlob(r.id, blobHeaderBytes+(first+i)*blobPieceBytes, "wrong checksum")
		}
	}
	r.at += n
	return b, nil
}

// Close ends the reading.
func (r *BlobReader) Close() { r.f.Close() }

// Open opens the blob for reading; the caller holds a reference until it has
// closed what it gets. After an error from that the caller calls Suspect.
func (b *Blob) Open() (*BlobReader, error) { return openBlob(b.all.fs, b.all.dir, b.id) }

// Suspect says that reading has failed: before the blob is handed out again, all
// of it is read.
func (b *Blob) Suspect() { b.setVerified(false) }

// verify reads all of a blob. It blocks on the disk.
func (b *Blob) verify() error {
	r, err := b.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	for err == nil {
		_, err = r.Next()
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	b.setVerified(true)
	return nil
}

// load makes sure that a message's blob can be read, once in a run: what is wrong
// is found before the first of its bytes leaves.
func (s *blobs) load(at Ref) error {
	b, known := s.of(at)
	switch {
	case !known:
		return nil // whoever asks will see that the message has gone
	case b == nil:
		return fmt.Errorf("%w: nothing says in which file the body of the message at offset %d of %s is",
			seglog.ErrDamaged, at.place().Offset(), logFileName(at))
	case s.verified(at):
		return nil
	}
	b.Retain()
	defer b.Release()
	return b.verify()
}

func logFileName(r Ref) string { return fmt.Sprintf("log-%08d", r.File()) }
