package seglog

import (
	"encoding/binary"
	"hash/crc32"
)

// The constants of this file are part of the on-disk format.
const (
	// formatVersion is raised with every change of the format.
	formatVersion = 1

	magic = 0x31_4e_52_57 // "WRN1", little endian

	// pageBytes is the alignment of batches: what a torn write can damage.
	pageBytes = 4096
	// blockBytes: a region never crosses a multiple of it within its file,
	// unless it is larger; then it begins at one. So a block in memory holds
	// whole records.
	blockBytes = 1 << 20

	// Batch header:
	//	 0 magic u32 | 4 flags u32 | 8 records u32 | 12 payload bytes u32
	//	16 file nonce u64 | 24 first LSN u64 | 32 durable LSN u64
	//	40 time, Unix ms u64 | 48 payload CRC u32 | 52 header CRC u32 | 56 zero u64
	batchHeaderBytes = 64
	batchCRCAt       = 52

	// Record:
	//	0 bytes u32, this field and the CRC included | 4 type u8 | 5 version u8
	//	6 shard u16 | 8 payload | CRC u32
	recordHeaderBytes = 8
	recordCRCBytes    = 4
	// RecordOverhead is what a record needs besides its payload.
	RecordOverhead = recordHeaderBytes + recordCRCBytes

	// typePad fills the rest of a block or of a large region; it is not counted
	// and has no LSN. No record begins in the last RecordOverhead-1 bytes of a
	// block: they stay zero and are skipped.
	typePad = 0

	// maxFileBytes bounds a file: an offset in a Place has that many bits.
	maxFileBytes = 1<<placeOffsetBits - 1
)

// Flags of a batch.
const (
	flagClaim = 1 << iota // no records: written when idle, to say what is durable
)

// LSN is the number of a record, counted from 1 over the whole life of the log.
type LSN uint64

// Place is where a record stands: file number and offset in it. Zero is no
// place. Only the lower 63 bits are used.
type Place uint64

const placeOffsetBits = 36

func makePlace(file uint32, offset int64) Place {
	return Place(uint64(file)<<placeOffsetBits | uint64(offset))
}

// File is the number of the log file.
func (p Place) File() uint32 { return uint32(p >> placeOffsetBits) }

// Offset is the offset in the file.
func (p Place) Offset() int64 { return int64(p & (1<<placeOffsetBits - 1)) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is CRC-32C of data, seeded with the file's nonce: bytes of another
// use of the file, or a body that imitates a batch, do not pass.
func checksum(nonce uint64, data []byte) uint32 {
	return crc32.Update(nonceCRC(nonce), castagnoli, data)
}

// nonceCRC is the CRC-32C of the nonce in little-endian order, byte by byte:
// for eight bytes of each record, calling the package and the array that it
// takes to the heap cost more than the work.
func nonceCRC(nonce uint64) uint32 {
	crc := ^uint32(0)
	for range 8 {
		crc = castagnoli[byte(crc)^byte(nonce)] ^ crc>>8
		nonce >>= 8
	}
	return ^crc
}

func alignPage(n int64) int64 { return (n + pageBytes - 1) &^ (pageBytes - 1) }

func alignBlock(n int64) int64 { return (n + blockBytes - 1) &^ (blockBytes - 1) }

// putPad fills b, which is zero, with a padding record.
func putPad(b []byte) {
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	b[4] = typePad
}

// batchHeader is a decoded batch header.
type batchHeader struct {
	flags        uint32
	records      uint32
	payloadBytes uint32
	firstLSN     LSN
	durableLSN   LSN
	timeMillis   int64
	payloadCRC   uint32
}

func (h *batchHeader) put(b []byte, nonce uint64) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], magic)
	le.PutUint32(b[4:], h.flags)
	le.PutUint32(b[8:], h.records)
	le.PutUint32(b[12:], h.payloadBytes)
	le.PutUint64(b[16:], nonce)
	le.PutUint64(b[24:], uint64(h.firstLSN))
	le.PutUint64(b[32:], uint64(h.durableLSN))
	le.PutUint64(b[40:], uint64(h.timeMillis))
	le.PutUint32(b[48:], h.payloadCRC)
	le.PutUint32(b[52:], checksum(nonce, b[:batchCRCAt]))
	le.PutUint64(b[56:], 0)
}

// parseBatchHeader reports false for anything but a header of this use of the
// file.
func parseBatchHeader(b []byte, nonce uint64) (h batchHeader, ok bool) {
	le := binary.LittleEndian
	if len(b) < batchHeaderBytes || le.Uint32(b) != magic || le.Uint64(b[16:]) != nonce ||
		le.Uint32(b[52:]) != checksum(nonce, b[:batchCRCAt]) {
		return h, false
	}
	return batchHeader{
		flags: le.Uint32(b[4:]), records: le.Uint32(b[8:]), payloadBytes: le.Uint32(b[12:]),
		firstLSN: LSN(le.Uint64(b[24:])), durableLSN: LSN(le.Uint64(b[32:])),
		timeMillis: int64(le.Uint64(b[40:])), payloadCRC: le.Uint32(b[48:]),
	}, true
}

// Record is one record as recovery and readers see it. Payload aliases the
// buffer it was read from.
type Record struct {
	Type    uint8
	Version uint8
	Shard   uint16
	Payload []byte
}

// parseRecord splits a record off b. It does not look at the checksum.
func parseRecord(b []byte) (r Record, n int, ok bool) {
	if len(b) < RecordOverhead {
		return r, 0, false
	}
	n = int(binary.LittleEndian.Uint32(b))
	if n < RecordOverhead || n > len(b) {
		return r, 0, false
	}
	return Record{
		Type: b[4], Version: b[5], Shard: binary.LittleEndian.Uint16(b[6:]),
		Payload: b[recordHeaderBytes : n-recordCRCBytes : n-recordCRCBytes],
	}, n, true
}

func recordChecksumOK(b []byte, nonce uint64) bool {
	end := len(b) - recordCRCBytes
	return binary.LittleEndian.Uint32(b[end:]) == checksum(nonce, b[:end])
}

// walk calls f for every record of a batch's payload, which begins at offset at
// of its file. It reports false if the records do not fill the payload.
func walk(payload []byte, at int64, f func(record []byte, at int64) bool) bool {
	for len(payload) > 0 {
		rest := blockBytes - at%blockBytes
		if rest < RecordOverhead { // too short for a record: skipped
			if int64(len(payload)) <= rest {
				return false
			}
			payload, at = payload[rest:], at+rest
			continue
		}
		r, n, ok := parseRecord(payload)
		if !ok {
			return false
		}
		if r.Type != typePad && !f(payload[:n], at) {
			return false
		}
		payload, at = payload[n:], at+int64(n)
	}
	return true
}

// runningCRC is the payload checksum of a batch, taken piece by piece.
type runningCRC struct{ sum uint32 }

func batchCRC(nonce uint64) runningCRC { return runningCRC{checksum(nonce, nil)} }

func (c *runningCRC) add(b []byte) { c.sum = crc32.Update(c.sum, castagnoli, b) }
