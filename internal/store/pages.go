package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/vfs"
)

// A page file holds pages of queues' indexes that are not in memory: a begin
// section, and then page sections, both as in a checkpoint. It is appended to
// until it is full, and by one run of the program only. A checkpoint names the
// pages it relies on by file, offset and length, and is made durable only after
// they are; a page file that neither the checkpoint that the mark names nor a
// queue in memory refers to is removed.
const (
	pageFilePrefix = "pages-"
	// pageFileBytes is when the next file is begun: pages of a million messages.
	pageFileBytes = 16 << 20
)

// pageFiles are the page files of a directory.
type pageFiles struct {
	mu      sync.Mutex // of the map, and of all fields but refs
	files   map[uint32]*pageFile
	current *pageFile // being appended to, nil if none is
	last    uint32    // highest number ever used
	buf     []byte
}

type pageFile struct {
	number uint32
	f      vfs.File
	bytes  int64
	synced bool // what is in it is durable
	failed bool // a sync of it has failed: what it holds may never be durable
	refs   atomic.Int64
}

func pageFileName(number uint32) string {
	return pageFilePrefix + strconv.FormatUint(uint64(number), 10)
}

func pagePlace(number uint32, at int64) uint64 { return uint64(number)<<32 | uint64(at) }

func pagePlaceFile(place uint64) uint32 { return uint32(place >> 32) }

// SpillPages writes pages of a queue to a page file, for Machine.Spill. What that
// refuses is given back with FreePage, without its homes.
func (d *Disk) SpillPages(q queue.ID, imgs []queue.Image) ([]*queue.Cold, error) {
	p := &d.pages
	p.mu.Lock()
	defer p.mu.Unlock()
	file, err := p.writable(d)
	if err != nil {
		return nil, fmt.Errorf("store: begin a page file: %w", err)
	}
	buf := p.buf[:0]
	cold := make([]*queue.Cold, len(imgs))
	for i := range imgs {
		start := len(buf)
		buf = appendSection(buf, secPage, func(b []byte) []byte { return appendPage(b, q, &imgs[i]) })
		cold[i] = &queue.Cold{Place: pagePlace(file.number, file.bytes+int64(start)), Length: uint32(len(buf) - start), Homes: homes(&imgs[i])}
	}
	p.buf = buf[:0]
	if _, err := file.f.WriteAt(buf, file.bytes); err != nil {
		p.current = nil // nothing refers to what may stand there now
		return nil, fmt.Errorf("store: write pages: %w", err)
	}
	file.bytes += int64(len(buf))
	file.synced = false
	file.refs.Add(int64(len(imgs)))
	return cold, nil
}

// writable is the file to append to. Called with p.mu held.
func (p *pageFiles) writable(d *Disk) (*pageFile, error) {
	if p.current != nil && p.current.bytes < pageFileBytes {
		return p.current, nil
	}
	p.last++
	name := filepath.Join(d.cfg.Dir, pageFileName(p.last))
	f, err := d.cfg.FS.Create(name)
	if err != nil {
		return nil, err
	}
	file := &pageFile{number: p.last, f: f}
	begin := appendSection(nil, secBegin, func(b []byte) []byte { return append(b, beginPayload(0)...) })
	if _, err := f.WriteAt(begin, 0); err != nil {
		f.Close()
		d.cfg.FS.Remove(name) // if it stays, the next start removes it
		return nil, err
	}
	file.bytes = int64(len(begin))
	p.files[file.number] = file
	p.current = file
	return file, nil
}

// homes counts the references of a page by log file.
func homes(img *queue.Image) (list []queue.Home) {
	img.Each(func(i int) {
		file := Ref(img.Entries[i].Ref).File()
		for n := range list {
			if list[n].File == file {
				list[n].References++
				return
			}
		}
		list = append(list, queue.Home{File: file, References: 1})
	})
	return list
}

// errPage is damage to a page file.
func errPage(place uint64, why string) error {
	return fmt.Errorf("%w: %s at offset %d: %s", seglog.ErrDamaged, pageFileName(pagePlaceFile(place)), uint32(place), why)
}

// LoadPage reads a cold page into img. It blocks on the disk. An error says that
// the page cannot be read, or that it is given up meanwhile.
func (d *Disk) LoadPage(q queue.ID, at queue.ColdPage, img *queue.Image) error {
	c := at.Cold
	d.pages.mu.Lock()
	file := d.pages.files[pagePlaceFile(c.Place)]
	d.pages.mu.Unlock()
	if file == nil {
		return errPage(c.Place, "the file is missing")
	}
	return readColdPage(file.f, q, at, img)
}

// readColdPage reads the page section of a cold page from its file.
func readColdPage(f io.ReaderAt, q queue.ID, at queue.ColdPage, img *queue.Image) error {
	place := at.Cold.Place
	b := make([]byte, at.Cold.Length)
	if _, err := f.ReadAt(b, int64(uint32(place))); err != nil {
		return fmt.Errorf("%w: %w", errPage(place, "it cannot be read"), err)
	}
	le := binary.LittleEndian
	end := len(b) - secCRCBytes
	if end < secHeaderBytes || int(le.Uint32(b)) != end-secHeaderBytes || b[4] != secPage {
		return errPage(place, "no page")
	}
	if le.Uint32(b[end:]) != crc32.Checksum(b[:end], castagnoli) {
		return errPage(place, "wrong checksum")
	}
	if id, ok := parsePage(b[secHeaderBytes:end], img); !ok || id != q || img.Level != at.Level || img.Number != at.Number {
		return errPage(place, "the page of something else")
	}
	n := 0
	img.Each(func(int) { n++ })
	if n != int(at.Cold.Messages) {
		return errPage(place, "another number of messages")
	}
	return nil
}

// FreePage gives up a page that is in memory again, or that Machine.Spill refused.
func (d *Disk) FreePage(c *queue.Cold) {
	d.pages.mu.Lock()
	file := d.pages.files[pagePlaceFile(c.Place)]
	d.pages.mu.Unlock()
	if file != nil {
		file.refs.Add(-1)
	}
}

// ReleasePage gives up a page with all references in it.
func (d *Disk) ReleasePage(c *queue.Cold) {
	for _, h := range c.Homes {
		d.file(h.File).refs.Add(-int64(h.References))
	}
	d.FreePage(c)
}

// takePage counts a cold page that a checkpoint has brought.
func (d *Disk) takePage(c *queue.Cold) {
	d.pages.files[pagePlaceFile(c.Place)].refs.Add(1)
	for _, h := range c.Homes {
		n := int64(h.References)
		bytes := c.BodyBytes*n/max(int64(c.Messages), 1) + n*checkpointRecordBytes
		d.placed(h.File, int(bytes), int(n))
	}
}

// SparsePages names a page file most of whose pages are not needed any more, once
// there is much of that in all: bringing the rest back lets it go.
func (d *Disk) SparsePages() (number uint32, ok bool) {
	p := &d.pages
	p.mu.Lock()
	defer p.mu.Unlock()
	var total, live, least int64
	for _, f := range p.files {
		if f == p.current {
			continue
		}
		n := f.refs.Load() * pageSectionBytes
		if f.failed && n > 0 {
			return f.number, true
		}
		total += f.bytes
		live += n
		if n > 0 && (!ok || n < least) {
			number, least, ok = f.number, n, true
		}
	}
	return number, ok && total > 4*live+4*pageFileBytes && least*4 < pageFileBytes
}

// pageSectionBytes is about what a full page takes in a page file.
const pageSectionBytes = 4200

// InPageFile tells whether a cold page stands in that page file.
func InPageFile(c *queue.Cold, number uint32) bool { return pagePlaceFile(c.Place) == number }

// RefersTo tells whether a cold page has references into that log file.
func RefersTo(c *queue.Cold, number uint32) bool {
	for _, h := range c.Homes {
		if h.File == number {
			return true
		}
	}
	return false
}

// openNamed opens a page file that the checkpoint being read relies on.
func (p *pageFiles) openNamed(d *Disk, number uint32) (*pageFile, error) {
	if f := p.files[number]; f != nil {
		return f, nil
	}
	name := pageFileName(number)
	f, err := d.cfg.FS.OpenRead(filepath.Join(d.cfg.Dir, name))
	if err != nil {
		return nil, errOpening(name, err)
	}
	size, err := f.Size()
	if err != nil {
		f.Close() // read only
		return nil, err
	}
	file := &pageFile{number: number, f: f, bytes: size, synced: true}
	p.files[number] = file
	return file, nil
}

// sync makes the pages in some files durable. A sync that fails is never tried
// again, because a second one would say that all is well: no checkpoint may rely on
// that file any more, and SparsePages names it.
func (p *pageFiles) sync(wanted map[uint32]bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for number := range wanted {
		f := p.files[number]
		if f.synced {
			continue
		}
		if f.failed {
			return fmt.Errorf("%s has failed to sync before", pageFileName(number))
		}
		// Under the lock: pages are spilled by the goroutine that calls this.
		if err := f.f.Sync(); err != nil {
			f.failed = true
			if p.current == f {
				p.current = nil
			}
			return err
		}
		f.synced = true
	}
	return nil
}

// nowNamed removes the files that nothing needs any more, besides those on which the
// checkpoint relies that the mark names now.
func (p *pageFiles) nowNamed(d *Disk, named map[uint32]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for number, f := range p.files {
		if named[number] || f == p.current || f.refs.Load() > 0 {
			continue
		}
		f.f.Close()
		d.cfg.FS.Remove(filepath.Join(d.cfg.Dir, pageFileName(number))) // if it stays, the next start removes it
		delete(p.files, number)
	}
}

// tidy removes page files that are left over, at a start.
func (p *pageFiles) tidy(d *Disk) {
	names, err := d.cfg.FS.List(d.cfg.Dir)
	if err != nil {
		return // the next start tries again
	}
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, pageFilePrefix)
		number, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil {
			continue
		}
		p.last = max(p.last, uint32(number))
		if p.files[uint32(number)] == nil {
			d.cfg.FS.Remove(filepath.Join(d.cfg.Dir, name))
		}
	}
}

func (p *pageFiles) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.files {
		f.f.Close() // what matters has been synced
	}
	p.files, p.current = map[uint32]*pageFile{}, nil
}
