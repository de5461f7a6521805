package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/warrenmq/warren/internal/vfs"
)

const (
	scratchPrefix = "scratch-"
	// scratchFileBytes is the size of a scratch file; a larger chunk gets one of
	// its own. Files are open while they hold anything, so there should be few.
	scratchFileBytes = 256 << 20
	// scratchUnitBytes is what room in a scratch file is counted in. Chunks that
	// are larger than bigSpanBytes have any size; the others take four units.
	scratchUnitBytes = ChunkBytes / 4
)

// scratch keeps chunks in files that hold nothing after the end of the process:
// they are never synced, a start removes them, and an empty one is removed by the
// next tidy. Safe for concurrent use; take and give do not touch the disk.
type scratch struct {
	fs  vfs.FS
	dir string

	mu     sync.Mutex
	files  []*scratchFile
	number int // of the last file made

	using  sync.RWMutex // held for reading while a file is made, written or read
	closed bool         // under using
}

var errScratchClosed = errors.New("store: the scratch files are closed")

// scratchFile is one file. It is closed only once nothing in it is in use, so
// that nobody reads or writes it then.
type scratchFile struct {
	name  string
	h     vfs.File
	taken []bool // by unit
	live  int    // units taken
}

// scratchCopy is where a chunk stands in a scratch file. Once written, it stays
// until the chunk is gone: a chunk that was loaded again spills for nothing.
type scratchCopy struct {
	file  *scratchFile // nil: not written
	unit  int
	units int
	bytes int // of the chunk's fill
	crc   uint32
}

// removeScratch removes what an earlier process has left.
func removeScratch(fsys vfs.FS, dir string) {
	names, err := fsys.List(dir)
	if err != nil {
		return // the next start tries again
	}
	for _, name := range names {
		if strings.HasPrefix(name, scratchPrefix) {
			fsys.Remove(filepath.Join(dir, name)) // if it stays, it is overwritten, or the next start tries again
		}
	}
}

// write writes a chunk's content to a place of its own.
func (s *scratch) write(content []byte) (scratchCopy, error) {
	s.using.RLock()
	defer s.using.RUnlock()
	if s.closed {
		return scratchCopy{}, errScratchClosed
	}
	units := (len(content) + scratchUnitBytes - 1) / scratchUnitBytes
	c, ok := s.take(units)
	if !ok {
		var err error
		if c, err = s.newFile(units); err != nil {
			return scratchCopy{}, err
		}
	}
	if _, err := c.file.h.WriteAt(content, int64(c.unit)*scratchUnitBytes); err != nil {
		s.give(c)
		return scratchCopy{}, fmt.Errorf("write %s: %w", c.file.name, err)
	}
	c.bytes, c.crc = len(content), crc32.Checksum(content, castagnoli)
	return c, nil
}

// read reads a chunk's content back into buf and verifies it.
func (s *scratch) read(c scratchCopy, buf []byte) error {
	s.using.RLock()
	defer s.using.RUnlock()
	if s.closed {
		return errScratchClosed
	}
	if n, err := c.file.h.ReadAt(buf[:c.bytes], int64(c.unit)*scratchUnitBytes); n < c.bytes {
		return fmt.Errorf("read %s: %w", c.file.name, err)
	}
	if crc32.Checksum(buf[:c.bytes], castagnoli) != c.crc {
		return fmt.Errorf("read %s at %d: wrong checksum", c.file.name, int64(c.unit)*scratchUnitBytes)
	}
	return nil
}

// take finds room in the files there are.
func (s *scratch) take(units int) (c scratchCopy, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		if len(f.taken)-f.live < units {
			continue
		}
		for i, run := 0, 0; i < len(f.taken); i++ {
			if run++; f.taken[i] {
				run = 0
			}
			if run == units {
				return f.take(i+1-units, units), true
			}
		}
	}
	return c, false
}

func (f *scratchFile) take(unit, units int) scratchCopy {
	for i := range units {
		f.taken[unit+i] = true
	}
	f.live += units
	return scratchCopy{file: f, unit: unit, units: units}
}

func (s *scratch) newFile(units int) (scratchCopy, error) {
	s.mu.Lock()
	s.number++
	f := &scratchFile{name: scratchPrefix + strconv.Itoa(s.number), taken: make([]bool, max(units, scratchFileBytes/scratchUnitBytes))}
	s.mu.Unlock()
	h, err := s.fs.Create(filepath.Join(s.dir, f.name))
	if err != nil {
		return scratchCopy{}, fmt.Errorf("make %s: %w", f.name, err)
	}
	f.h = h
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = append(s.files, f)
	return f.take(0, units), nil
}

// give gives a chunk's place back.
func (s *scratch) give(c scratchCopy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range c.units {
		c.file.taken[c.unit+i] = false
	}
	c.file.live -= c.units
}

// tidy removes files that hold nothing.
func (s *scratch) tidy() {
	var empty []*scratchFile
	s.mu.Lock()
	s.files = slices.DeleteFunc(s.files, func(f *scratchFile) bool {
		if f.live == 0 {
			empty = append(empty, f)
		}
		return f.live == 0
	})
	s.mu.Unlock()
	for _, f := range empty {
		f.h.Close() // nothing in it counts any more
		s.fs.Remove(filepath.Join(s.dir, f.name))
	}
}

// close ends all reading and writing, and removes the files if told so: not after
// a crash is acted out, because the directory may have another owner by now.
func (s *scratch) close(remove bool) {
	s.using.Lock()
	defer s.using.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.mu.Lock()
	files := s.files
	s.files = nil
	s.mu.Unlock()
	for _, f := range files {
		f.h.Close()
		if remove {
			s.fs.Remove(filepath.Join(s.dir, f.name)) // if it stays, the next start removes it
		}
	}
}
