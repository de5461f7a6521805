package seglog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
)

// TestCutFileBeforeDroppedOne: the file that a cut file went on in may be dropped
// first, once both are below the mark, and the directory opens nevertheless.
func TestCutFileBeforeDroppedOne(t *testing.T) {
	m := &manifest{mark: Mark{Name: "ckpt-3", From: 60}, files: []manifestFile{
		{number: 1, nonce: 1, bytes: 4 << 20, firstLSN: 1, cutAt: 4096, cutLSN: 20},
		{number: 3, nonce: 3, bytes: 4 << 20, firstLSN: 50},
		{number: 4, nonce: 4, bytes: 4 << 20, firstLSN: 60},
	}}
	if _, err := decodeManifest(m.encode()); err != nil {
		t.Errorf("with the mark at 60: %v", err)
	}
	m.mark.From = 49
	if _, err := decodeManifest(m.encode()); !errors.Is(err, ErrDamaged) {
		t.Errorf("with the mark at 49, file 2 is missing: %v", err)
	}
}

func TestNonceCRC(t *testing.T) {
	for _, nonce := range []uint64{0, 1, 0x0123456789abcdef, ^uint64(0)} {
		want := crc32.Checksum(binary.LittleEndian.AppendUint64(nil, nonce), castagnoli)
		if got := nonceCRC(nonce); got != want {
			t.Errorf("nonce %#x: %#x, want %#x", nonce, got, want)
		}
	}
}
