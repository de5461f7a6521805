package store

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/vfs"
)

// inspectedBlobs are the blobs of a directory that is inspected.
type inspectedBlobs struct {
	fs   vfs.FS
	dir  string
	all  map[uint64]bool        // that are there; true if a message has it
	bad  map[uint64]*Unreadable // nil: whole
	lost map[Ref]Unreadable     // messages without their body
}

func inspectBlobs(fsys vfs.FS, dir string) inspectedBlobs {
	s := inspectedBlobs{fsys, dir, map[uint64]bool{}, map[uint64]*Unreadable{}, map[Ref]Unreadable{}}
	names, err := fsys.List(dir)
	if err != nil {
		return s // that a blob is missing shows when it is read
	}
	for _, name := range names {
		if id := blobID(name); id != 0 {
			s.all[id] = false
		}
	}
	return s
}

// whole tells whether a message that a queue holds has its body. Each blob is read
// once.
func (s *inspectedBlobs) whole(p *Published, at Ref) bool {
	if p.Blob == 0 {
		return true
	}
	if _, there := s.all[p.Blob]; there {
		s.all[p.Blob] = true
	}
	bad, seen := s.bad[p.Blob]
	if !seen {
		read := int64(0)
		err := s.read(p.Blob, func(b []byte) error {
			read += int64(len(b))
			return nil
		})
		if err == nil && uint64(read) != message.Record(p.Message).BodyBytes() {
			err = errors.New("another size")
		}
		if err != nil {
			bad = &Unreadable{blobName(p.Blob), blobHeaderBytes + read}
		}
		s.bad[p.Blob] = bad
	}
	if bad != nil {
		s.lost[at] = *bad
	}
	return bad == nil
}

// read calls f with the verified parts of a blob.
func (s *inspectedBlobs) read(id uint64, f func([]byte) error) error {
	r, err := openBlob(s.fs, s.dir, id)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = f(b)
		}
		if err != nil {
			return err
		}
	}
}

func (s *inspectedBlobs) sum() (n int, bytes int64, left int) {
	for id, used := range s.all {
		if !used {
			left++
			continue
		}
		n++
		if size, err := s.fs.Stat(filepath.Join(s.dir, blobName(id))); err == nil {
			bytes += size
		}
	}
	return n, bytes, left
}

// Body appends the body of a message to dst, from its blob if it is there.
func (in *Inspection) Body(dst []byte, p *Published) ([]byte, error) {
	if p.Blob == 0 {
		return message.Record(p.Message).AppendBody(dst), nil
	}
	err := in.blobs.read(p.Blob, func(b []byte) error {
		dst = append(dst, b...)
		return nil
	})
	return dst, err
}

// copyBlob copies the blob of a message to a directory that is salvaged to.
func (in *Inspection) copyBlob(d *Disk, p *Published) (*Blob, error) {
	u, err := d.BeginBlob(int64(message.Record(p.Message).BodyBytes()))
	if err != nil {
		return nil, err
	}
	if err = in.blobs.read(p.Blob, u.Write); err == nil {
		var b *Blob
		if b, err = u.Finish(true); err == nil {
			return b, nil
		}
	}
	u.Abort()
	return nil, fmt.Errorf("copy %s: %w", blobName(p.Blob), err)
}
