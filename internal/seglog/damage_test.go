package seglog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
)

// sample is a log on a disk, and all that is known about it.
type sample struct {
	disk    *vfs.MemFS
	config  Config
	all     []Entry
	batches []sampleBatch
	files   []manifestFile
	durable LSN // as the manifest has it
}

type sampleBatch struct {
	file    manifestFile
	at, end int64 // end of the payload
	header  batchHeader
	first   LSN
}

// newSample makes a log of several files; it ends with a crash or in order.
func newSample(t *testing.T, clean bool) *sample {
	s := &sample{disk: vfs.NewMem()}
	s.config = memConfig(s.disk)
	s.config.FileBytes = 1 << 20
	l, _, _ := openInlineT(t, s.config)
	work := func(sizes ...int) {
		s.all = append(s.all, putAll(l, true, sizes...)...)
		l.step()
	}
	for i := range 12 {
		work(10, 300*i, 0)
		if i%4 == 3 {
			work(350_000)
		}
	}
	work(700_000, 500_000) // a large region
	l.Abandon()
	l, _, _ = openInlineT(t, s.config) // writes the tail again, with a cut
	for range 5 {
		work(20, 30)
	}
	s.all = append(s.all, putAll(l, true, 5)...)
	l.closeBatch()
	s.all = append(s.all, putAll(l, true, 5000)...) // two batches in one sync
	l.step()
	if clean {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l.Abandon()
	m, err := readManifest(s.disk, testDir)
	if err != nil {
		t.Fatal(err)
	}
	s.files, s.durable = m.files, m.durable
	s.findBatches(t)
	return s
}

// findBatches reads the headers without the help of recovery.
func (s *sample) findBatches(t *testing.T) {
	for _, f := range s.files {
		h, err := s.disk.OpenRead(s.name(f))
		if err != nil {
			t.Fatal(err)
		}
		limit := f.bytes
		if f.cutAt > 0 {
			limit = f.cutAt
		}
		b := make([]byte, batchHeaderBytes)
		for at := int64(0); at+batchHeaderBytes <= limit; at += pageBytes {
			if err := readFull(h, b, at); err != nil {
				t.Fatal(err)
			}
			if hd, ok := parseBatchHeader(b, f.nonce); ok {
				s.batches = append(s.batches, sampleBatch{f, at, at + batchHeaderBytes + int64(hd.payloadBytes), hd, hd.firstLSN})
			}
		}
		h.Close()
	}
	if len(s.files) < 3 || len(s.batches) < 15 {
		t.Fatalf("%d files with %d batches", len(s.files), len(s.batches))
	}
}

func (s *sample) name(f manifestFile) string { return testDir + "/" + logName(f.number) }

// claimed is the highest LSN that something other than batch i says is durable.
func (s *sample) claimed(i int) LSN {
	claim := max(s.files[len(s.files)-1].firstLSN, s.durable)
	for j, b := range s.batches {
		if j != i {
			claim = max(claim, b.header.durableLSN)
		}
	}
	return claim
}

// open opens a damaged copy and returns how many records it gives: all that it
// gives are the right ones, in order, from the first.
func (s *sample) open(disk vfs.FS) (records int, err error) {
	c := s.config
	c.FS = disk
	l, _, err := openInline(c, func(e Entry) error {
		if records >= len(s.all) || sameEntries([]Entry{e}, s.all[records:records+1]) != nil {
			return fmt.Errorf("a record that was never written, at LSN %d", e.LSN)
		}
		records++
		return nil
	})
	if err != nil {
		if !errors.Is(err, ErrDamaged) {
			return records, fmt.Errorf("an error other than damage: %w", err)
		}
		return records, err
	}
	l.Abandon()
	return records, nil
}

// TestFlippedBits damages every batch in its header, its payload and its padding.
func TestFlippedBits(t *testing.T) {
	for _, clean := range []bool{false, true} {
		s := newSample(t, clean)
		rng := rand.New(rand.NewPCG(1, 2))
		shorter, damaged, same := 0, 0, 0
		for i, b := range s.batches {
			last := s.claimed(i) <= b.first && b.header.records > 0
			var spots []int64
			for at := b.at; at < b.at+batchHeaderBytes+RecordOverhead; at += 5 {
				spots = append(spots, at)
			}
			for range 6 {
				spots = append(spots, b.at+rng.Int64N(b.end-b.at))
			}
			spots = append(spots, b.end-1, b.end, alignPage(b.end)-1)
			for _, at := range spots {
				disk := s.disk.Clone()
				if err := vfs.FlipBit(disk, s.name(b.file), at*8+rng.Int64N(8)); err != nil {
					continue // behind the end of the file
				}
				n, err := s.open(disk)
				where := fmt.Sprintf("clean=%v batch %d of %s, LSN %d, at %d of %d to %d", clean, i, logName(b.file.number), b.first, at, b.at, b.end)
				switch {
				case err == nil && n == len(s.all):
					same++
					if at < b.at+52 || at >= b.at+batchHeaderBytes && at < b.end && b.header.records > 0 {
						t.Errorf("%s: not noticed", where)
					}
				case errors.Is(err, ErrDamaged):
					damaged++
					if at >= b.end || last && !clean {
						t.Errorf("%s: %v", where, err)
					}
					if msg := err.Error(); !strings.Contains(msg, fmt.Sprintf("LSN %d", b.first)) || !strings.Contains(msg, logName(b.file.number)) {
						t.Errorf("%s: the message does not say where: %v", where, err)
					}
				case err == nil:
					shorter++
					if clean || !last || s.all[0].LSN+LSN(n) != b.first {
						t.Errorf("%s: %d records of %d, without a word", where, n, len(s.all))
					}
				default:
					t.Errorf("%s: %v", where, err)
				}
			}
		}
		t.Logf("clean=%v: %d damaged, %d the same, %d shorter", clean, damaged, same, shorter)
		if damaged < 100 || same < 10 || !clean && shorter == 0 {
			t.Error("too little of some kind")
		}
	}
}

// TestDamagedFiles cuts files short, takes them away, swaps them and overwrites
// pages of them.
func TestDamagedFiles(t *testing.T) {
	zeros := make([]byte, 3*pageBytes)
	for _, clean := range []bool{false, true} {
		s := newSample(t, clean)
		lastFile := s.files[len(s.files)-1].number
		check := func(what string, mayShorten bool, damage func(disk *vfs.MemFS) error) {
			disk := s.disk.Clone()
			if err := damage(disk); err != nil {
				t.Fatal(what, err)
			}
			n, err := s.open(disk)
			if err != nil && !errors.Is(err, ErrDamaged) {
				t.Errorf("clean=%v %s: %v", clean, what, err)
			}
			if err == nil && n < len(s.all) && (clean || !mayShorten) {
				t.Errorf("clean=%v %s: %d records of %d, without a word", clean, what, n, len(s.all))
			}
		}
		for i, b := range s.batches {
			last := b.file.number == lastFile && s.claimed(i) <= b.first
			for _, cut := range []int64{b.at, b.at + 10, b.at + batchHeaderBytes, b.end - 1, b.end} {
				// What is cut off takes the later claims with it.
				check(fmt.Sprintf("%s cut to %d", logName(b.file.number), cut), b.file.number == lastFile,
					func(disk *vfs.MemFS) error { return vfs.CutTo(disk, s.name(b.file), cut) })
			}
			check(fmt.Sprintf("%s zeroed at %d", logName(b.file.number), b.at), b.file.number == lastFile,
				func(disk *vfs.MemFS) error { return vfs.Overwrite(disk, s.name(b.file), b.at, zeros[:pageBytes]) })
			if !last && b.file.number != lastFile {
				check(fmt.Sprintf("%s zeroed for long at %d", logName(b.file.number), b.at), false,
					func(disk *vfs.MemFS) error { return vfs.Overwrite(disk, s.name(b.file), b.at, zeros) })
			}
		}
		for i, f := range s.files {
			check("without "+logName(f.number), false, func(disk *vfs.MemFS) error { return disk.Remove(s.name(f)) })
			check("empty "+logName(f.number), f.number == lastFile, func(disk *vfs.MemFS) error { return vfs.CutTo(disk, s.name(f), 0) })
			other := s.files[(i+1)%len(s.files)]
			check("swapped "+logName(f.number), f.number == lastFile || other.number == lastFile, func(disk *vfs.MemFS) error {
				return errors.Join(disk.Rename(s.name(f), "/x"), disk.Rename(s.name(other), s.name(f)), disk.Rename("/x", s.name(other)))
			})
		}
		check("without MANIFEST", false, func(disk *vfs.MemFS) error { return disk.Remove(testDir + "/" + manifestName) })
	}
}

// TestDamagedManifest: every bit counts.
func TestDamagedManifest(t *testing.T) {
	s := newSample(t, true)
	name := testDir + "/" + manifestName
	size, err := s.disk.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range size * 8 {
		disk := s.disk.Clone()
		if err := vfs.FlipBit(disk, name, bit); err != nil {
			t.Fatal(err)
		}
		if n, err := s.open(disk); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), manifestName) {
			t.Errorf("bit %d: %d records, %v", bit, n, err)
		}
	}
	for cut := range size {
		disk := s.disk.Clone()
		if err := vfs.CutTo(disk, name, cut); err != nil {
			t.Fatal(err)
		}
		if n, err := s.open(disk); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d: %d records, %v", cut, n, err)
		}
	}
}

// TestDamageChangesNothing: an Open that finds damage leaves every file as it is,
// for a salvage to look at.
func TestDamageChangesNothing(t *testing.T) {
	s := newSample(t, false)
	disk := s.disk.Clone()
	stray := testDir + "/" + logName(77) // a file that the manifest does not know
	f, err := disk.Create(stray)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	b := s.batches[2]
	if err := vfs.FlipBit(disk, s.name(b.file), b.at*8); err != nil {
		t.Fatal(err)
	}
	trace := vfs.NewTrace(disk, testDir, vfs.OpsChange&^vfs.OpMkdirAll)
	if _, err := s.open(trace); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	if text := trace.Text(); text != "" {
		t.Errorf("changed:\n%s", text)
	}
}

// TestLeftovers: bytes of an earlier use of a file, or of another file, are never
// taken for part of the log, and other people's files are left alone.
func TestLeftovers(t *testing.T) {
	disk := vfs.NewMem()
	c := memConfig(disk)
	c.FileBytes, c.Spares = 1<<20, 2
	l, _, _ := openInlineT(t, c)
	for _, name := range []string{"log-1", "log-backup", "log-00000001.old", "spare-x", "spare-01", "notes"} {
		f, err := disk.Create(testDir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	recycled, longest := 0, 0
	for round := range 12 {
		// Batches of the same shape in every file, so that old ones stand exactly
		// where new ones are expected.
		for range 4 {
			putAll(l, true, 200_000)
			l.step()
		}
		for len(l.files.manifest.files) > 1 {
			if err := l.Drop(l.Files()[0].Number); err != nil {
				t.Fatal(err)
			}
			recycled++
		}
		first := l.files.manifest.files[0].firstLSN
		next := l.nextLSN
		l.Abandon()
		var got []Entry
		l, got, _ = openInlineT(t, c)
		if len(got) != int(next-first) || len(got) > 0 && got[0].LSN != first {
			t.Fatalf("round %d: %d records, want %d from LSN %d", round, len(got), next-first, first)
		}
		longest = max(longest, len(got))
	}
	if recycled < 5 || longest == 0 {
		t.Errorf("%d files recycled, %d records recovered at most", recycled, longest)
	}
	l.Abandon()
	names, err := disk.List(testDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"log-1", "log-backup", "log-00000001.old", "spare-x", "spare-01", "notes"} {
		if !strings.Contains(" "+strings.Join(names, " ")+" ", " "+name+" ") {
			t.Errorf("%s is gone: %v", name, names)
		}
	}
}
