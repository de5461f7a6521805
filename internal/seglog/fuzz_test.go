package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
)

// FuzzOpen overwrites parts of a log, and of its manifest with a checksum that
// fits: Open gives right records or an error, and does not panic.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{}, []byte{})
	f.Add([]byte{0, 0, 0, 0, 1, 1}, []byte("clean 3\n"))
	f.Add([]byte{1, 0, 16, 0, 200, 7, 0, 0, 0, 8, 9, 10}, []byte("file 3 0 1048576 8\n"))
	base := vfs.NewMem()
	all := makeFixture(&testing.T{}, base, false)
	f.Fuzz(func(t *testing.T, writes, lines []byte) {
		mem := base.Clone()
		// Each write: file, offset in 16 bits, length, bytes.
		for len(writes) > 4 {
			n := min(int(writes[3]), len(writes)-4)
			name := fmt.Sprintf("%s/%s", testDir, logName(1+uint32(writes[0]%2)))
			if n > 0 {
				if err := vfs.Overwrite(mem, name, int64(binary.LittleEndian.Uint16(writes[1:])), writes[4:4+n]); err != nil {
					t.Fatal(err)
				}
			}
			writes = writes[4+n:]
		}
		if len(lines) > 0 {
			m := readAll(t, mem, manifestName)
			m = append(m[:bytes.LastIndex(m, []byte("crc "))], lines...)
			m = fmt.Appendf(m, "crc %08x\n", crc32.Checksum(m, castagnoli))
			writeAll(t, mem, manifestName, m)
		}
		n := 0
		l, _, err := openInline(fixtureConfig(mem), func(e Entry) error {
			if n >= len(all) || sameEntries([]Entry{e}, all[n:n+1]) != nil {
				t.Errorf("LSN %d was never written like that", e.LSN)
			}
			n++
			return nil
		})
		if err == nil {
			l.Abandon()
		} else if !errors.Is(err, ErrDamaged) && len(lines) == 0 {
			t.Errorf("an error other than damage: %v", err)
		}
	})
}

// FuzzManifest: what is taken is written again as the same bytes.
func FuzzManifest(f *testing.F) {
	m := &manifest{node: 1, clean: 9, files: []manifestFile{
		{number: 1, nonce: 5, bytes: 1 << 20, firstLSN: 1, cutAt: 4096, cutLSN: 4}, {number: 3, nonce: 6, bytes: 64 << 20, firstLSN: 4},
	}}
	f.Add(m.encode())
	f.Add([]byte("warren-log 1\nnode 0\n"))
	f.Add([]byte("warren-log 2\nnode 0000000000000000\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, b := range [][]byte{data, fmt.Appendf(bytes.Clone(data), "crc %08x\n", crc32.Checksum(data, castagnoli))} {
			m, err := decodeManifest(b)
			if err != nil {
				continue
			}
			if !bytes.Equal(m.encode(), b) {
				t.Errorf("%q is written as %q", b, m.encode())
			}
			table := &fileTable{}
			for _, file := range m.files {
				table = table.with(newLogFile(file))
			}
		}
	})
}
