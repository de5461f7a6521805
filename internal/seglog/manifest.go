package seglog

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/warrenmq/warren/internal/vfs"
)

// manifest names every log file there is, and says where recovery has cut one.
// It is a text file, replaced as a whole: written to MANIFEST.new, synced,
// renamed. A file is named before its first use and until after its last.
//
//	warren-log 1
//	node 5f3a…            a random id of this directory
//	durable 1045          everything below was durable when this was written
//	file 7 9c1e… 67108864 1042   number, nonce, bytes, first LSN
//	cut 7 8192 1050       the file's records end at that offset; LSN 1050 is in the next
//	mark ckpt-3 1001      reading begins at that LSN; what is below is in that file
//	clean 1050            shut down in order; the next LSN. Nothing below may be cut
//	crc 1a2b3c4d          CRC-32C of all lines above
type manifest struct {
	node  uint64
	files []manifestFile // ascending number
	// durable is a position that had been reached when the manifest was written.
	durable LSN
	clean   LSN // 0 if not shut down in order
	mark    Mark
}

type manifestFile struct {
	number   uint32
	nonce    uint64
	bytes    int64
	firstLSN LSN
	cutAt    int64 // offset at which the file ends by a cut, 0 for none
	cutLSN   LSN
}

const (
	manifestName    = "MANIFEST"
	manifestNewName = "MANIFEST.new"
)

// ErrDamaged says that data that was durable cannot be read any more.
var ErrDamaged = errors.New("seglog: durable data is damaged")

func (m *manifest) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "warren-log %d\nnode %016x\n", formatVersion, m.node)
	if m.durable > 0 {
		fmt.Fprintf(&b, "durable %d\n", m.durable)
	}
	for _, f := range m.files {
		fmt.Fprintf(&b, "file %d %016x %d %d\n", f.number, f.nonce, f.bytes, f.firstLSN)
		if f.cutAt > 0 {
			fmt.Fprintf(&b, "cut %d %d %d\n", f.number, f.cutAt, f.cutLSN)
		}
	}
	if m.mark.Name != "" {
		fmt.Fprintf(&b, "mark %s %d\n", m.mark.Name, m.mark.From)
	}
	if m.clean > 0 {
		fmt.Fprintf(&b, "clean %d\n", m.clean)
	}
	fmt.Fprintf(&b, "crc %08x\n", crc32.Checksum(b.Bytes(), castagnoli))
	return b.Bytes()
}

// decodeManifest takes exactly what encode makes.
func decodeManifest(data []byte) (*manifest, error) {
	at := bytes.LastIndex(data, []byte("crc "))
	var sum uint32
	if at < 0 {
		return nil, fmt.Errorf("%w: %s has no checksum", ErrDamaged, manifestName)
	}
	if _, err := fmt.Sscanf(string(data[at:]), "crc %08x\n", &sum); err != nil || sum != crc32.Checksum(data[:at], castagnoli) {
		return nil, fmt.Errorf("%w: the checksum of %s is wrong", ErrDamaged, manifestName)
	}
	m := &manifest{}
	for n, line := range strings.Split(strings.TrimSuffix(string(data[:at]), "\n"), "\n") {
		if err := m.decodeLine(line, n == 0); err != nil {
			return nil, err
		}
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, manifestName, err)
	}
	if !bytes.Equal(m.encode(), data) {
		return nil, fmt.Errorf("%w: %s is not as it was written", ErrDamaged, manifestName)
	}
	return m, nil
}

func (m *manifest) decodeLine(line string, first bool) error {
	word, rest, _ := strings.Cut(line, " ")
	var err error
	switch {
	case first:
		var version int
		if _, err = fmt.Sscanf(line, "warren-log %d", &version); err == nil && version != formatVersion {
			return fmt.Errorf("seglog: the data directory has format %d, this program reads format %d only: "+
				"use the version of the program that wrote it", version, formatVersion)
		}
	case word == "node":
		_, err = fmt.Sscanf(rest, "%x", &m.node)
	case word == "file":
		var f manifestFile
		_, err = fmt.Sscanf(rest, "%d %x %d %d", &f.number, &f.nonce, &f.bytes, &f.firstLSN)
		m.files = append(m.files, f)
	case word == "cut" && len(m.files) > 0: // of the file before
		var number uint32
		f := &m.files[len(m.files)-1]
		_, err = fmt.Sscanf(rest, "%d %d %d", &number, &f.cutAt, &f.cutLSN)
	case word == "mark":
		_, err = fmt.Sscanf(rest, "%s %d", &m.mark.Name, &m.mark.From)
	case word == "durable":
		_, err = fmt.Sscanf(rest, "%d", &m.durable)
	case word == "clean":
		_, err = fmt.Sscanf(rest, "%d", &m.clean)
	default:
		err = errors.New("unknown line")
	}
	if err != nil {
		return fmt.Errorf("%w: %s: line %q: %w", ErrDamaged, manifestName, line, err)
	}
	return nil
}

// maxFileNumbers bounds how far apart the numbers of the first and the last file
// may be: files are found through a table of that length.
const maxFileNumbers = 1 << 20

func (m *manifest) check() error {
	if m.mark != (Mark{}) && (!markName.MatchString(m.mark.Name) || m.mark.From == 0) {
		return fmt.Errorf("a mark cannot be %q", m.mark.Name)
	}
	for i, f := range m.files {
		if f.number == 0 || f.bytes < blockBytes || f.bytes > maxFileBytes || f.firstLSN == 0 {
			return fmt.Errorf("file %d cannot be like this", f.number)
		}
		if f.cutAt < 0 || f.cutAt > f.bytes || f.cutAt > 0 && f.cutLSN < f.firstLSN {
			return fmt.Errorf("file %d cannot be cut there", f.number)
		}
		if i == 0 {
			continue
		}
		before := m.files[i-1]
		if before.number >= f.number || before.firstLSN > f.firstLSN || f.number-m.files[0].number > maxFileNumbers {
			return fmt.Errorf("file %d cannot follow file %d", f.number, before.number)
		}
		// Below the mark, files between the two may have been dropped.
		if before.cutAt > 0 && before.cutLSN != f.firstLSN && !m.below(i-1) {
			return fmt.Errorf("file %d does not begin where file %d was cut", f.number, before.number)
		}
	}
	return nil
}

// names tells whether the file is in use.
func (m *manifest) names(number uint32) bool {
	return slices.ContainsFunc(m.files, func(f manifestFile) bool { return f.number == number })
}

// writeManifest replaces the manifest and does not return before the new one is
// durable.
func writeManifest(fsys vfs.FS, dir string, m *manifest) error {
	name := filepath.Join(dir, manifestNewName)
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(m.encode(), 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.Rename(name, filepath.Join(dir, manifestName))
	}
	if err == nil {
		err = fsys.SyncDir(dir)
	}
	return err
}

// readManifest returns nil if there is none.
func readManifest(fsys vfs.FS, dir string) (*manifest, error) {
	f, err := fsys.OpenRead(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	if err := readFull(f, data, 0); err != nil {
		return nil, fmt.Errorf("read %s: %w", manifestName, err)
	}
	return decodeManifest(data)
}
