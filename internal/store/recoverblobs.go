package store

import (
	"encoding/binary"
	"log/slog"
	"path/filepath"
)

// restore counts the references to a message that recovery has found. id is its
// blob's, 0 if that will be told later.
func (s *blobs) restore(at Ref, id uint64, references int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.heads[at]
	if h == nil && references == 0 {
		return
	}
	if h == nil {
		h = &blobHead{}
		s.heads[at] = h
	}
	h.refs += int64(references)
	if h.blob != nil {
		h.blob.refs += int64(references)
	} else if id != 0 {
		s.tell(h, id)
	}
}

// tell gives a message its blob, with the references it has. Called with s.mu
// held.
func (s *blobs) tell(h *blobHead, id uint64) {
	b := s.byID[id]
	if b == nil {
		b = &Blob{all: s, id: id}
		s.byID[id] = b
	}
	h.blob = b
	b.refs += h.refs
}

// pairs says which message has which blob, as sections of a checkpoint hold it.
func (s *blobs) pairs() (list []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, h := range s.heads {
		if h.blob != nil {
			list = binary.LittleEndian.AppendUint64(list, uint64(at))
			list = binary.LittleEndian.AppendUint64(list, h.blob.id)
		}
	}
	return list
}

// tellPairs takes what pairs has given, for those messages that are still there.
func (s *blobs) tellPairs(list []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; len(list) > 0; list = list[blobPairBytes:] {
		if h := s.heads[Ref(binary.LittleEndian.Uint64(list))]; h != nil && h.blob == nil {
			s.tell(h, binary.LittleEndian.Uint64(list[8:]))
		}
	}
}

const blobPairBytes = 16

// tidyBlobs ends a recovery: blobs that no message has are removed, and those that
// are missing are named. Their messages are set aside when their turn comes.
func (d *Disk) tidyBlobs() {
	s := d.blobs
	idle, dead := s.takeUnused()
	s.discard(idle, dead)
	names, err := s.fs.List(s.dir)
	if err != nil {
		return // the next start tries again
	}
	there := map[uint64]bool{}
	for _, name := range names {
		id := blobID(name)
		if id == 0 {
			continue
		}
		there[id] = true
		if b := s.byID[id]; b == nil || b.refs == 0 {
			delete(s.byID, id)
			s.fs.Remove(filepath.Join(s.dir, name)) // if it stays, the next start tries again
		}
	}
	logger := d.cfg.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	for id, b := range s.byID {
		if !there[id] && b.refs > 0 {
			logger.Error("a file with the body of a message is missing; the message will be set aside", "file", blobName(id), "references", b.refs)
		}
	}
	for at, h := range s.heads {
		if h.blob == nil && h.refs > 0 {
			logger.Error("nothing says which file has the body of a message; it will be set aside", "record_in", logFileName(at), "offset", at.place().Offset())
		}
	}
}
