package store

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/vfs"
)

func blobBody(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// upload writes a blob in parts of any size.
func upload(d *Disk, body []byte, rng *rand.Rand) (*Blob, error) {
	u, err := d.BeginBlob(int64(len(body)))
	if err != nil {
		return nil, err
	}
	for rest := body; len(rest) > 0; {
		n := min(len(rest), 1+rng.IntN(100_000))
		if u.Write(rest[:n]) != nil {
			break
		}
		rest = rest[n:]
	}
	b, err := u.Finish(true)
	if err != nil {
		u.Abort()
	}
	return b, err
}

func readBlob(b *Blob) ([]byte, error) {
	r, err := b.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var body []byte
	for {
		part, err := r.Next()
		if errors.Is(err, io.EOF) {
			return body, nil
		}
		if err != nil {
			return body, err
		}
		body = append(body, part...)
	}
}

func blobFiles(t testing.TB, fsys vfs.FS, dir string) (list []string) {
	t.Helper()
	names, err := fsys.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, blobPrefix) {
			list = append(list, name)
		}
	}
	return list
}

func openPlain(t testing.TB, fsys vfs.FS) *Disk {
	t.Helper()
	d, _, err := OpenDisk(DiskConfig{FS: fsys, Dir: sampleDir, FileBytes: 1 << 20}, nothing{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestBlobFormat holds the bytes of a blob as docs/format/store.md has them.
func TestBlobFormat(t *testing.T) {
	fsys := vfs.NewMem()
	d := openPlain(t, fsys)
	defer d.Abandon()
	b := d.blobs.newBlob()
	delete(d.blobs.byID, b.id)
	b.id = 0x0102030405060708
	u := &Upload{blob: b, bytes: 3}
	var err error
	if u.f, err = fsys.Create(d.blobs.path(b.id)); err != nil {
		t.Fatal(err)
	}
	if err := u.begin(); err != nil {
		t.Fatal(err)
	}
	if err := u.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Finish(true); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.OpenRead(sampleDir + "/blob-0102030405060708")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, BlobBytes(3))
	if _, err := f.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	const want = "57524e42 01000000 0807060504030201 0300000000000000 00000100 527ae34f" + "616263" + "935cff4c" + "3d864fc8"
	if s := hex.EncodeToString(got); s != strings.ReplaceAll(want, " ", "") {
		t.Errorf("got  %s\nwant %s", s, strings.ReplaceAll(want, " ", ""))
	}
}

func TestBlobSizes(t *testing.T) {
	fsys := vfs.NewMem()
	d := openPlain(t, fsys)
	defer d.Abandon()
	rng := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{1, blobPieceBytes - 1, blobPieceBytes, blobPieceBytes + 1, blobReadBytes, blobReadBytes + 1, 1_000_000} {
		body := blobBody(n)
		b, err := upload(d, body, rng)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readBlob(b); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes come back as %d, %v", n, len(got), err)
		}
		if size, err := fsys.Stat(d.blobs.path(b.id)); err != nil || size != BlobBytes(int64(n)) {
			t.Errorf("a body of %d bytes takes %d, want %d", n, size, BlobBytes(int64(n)))
		}
		b.Release()
	}
	if err := d.SweepBlobs(); err != nil {
		t.Fatal(err)
	}
	if left := blobFiles(t, fsys, sampleDir); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

// TestBlobDamage flips each of many bits and cuts the file: reading gives nothing
// wrong, and says ErrDamaged before the piece with the damage.
func TestBlobDamage(t *testing.T) {
	fsys := vfs.NewMem()
	d := openPlain(t, fsys)
	defer d.Abandon()
	rng := rand.New(rand.NewPCG(1, 1))
	body := blobBody(300_000)
	b, err := upload(d, body, rng)
	if err != nil {
		t.Fatal(err)
	}
	size := BlobBytes(int64(len(body)))
	for i := range int64(400) {
		damaged := fsys.Clone()
		at := rng.Int64N(size)
		if i < 100 {
			at = i % blobHeaderBytes
		} else if i < 150 {
			at = size - 1 - i%30
		}
		cut := i%5 == 0
		if cut {
			err = vfs.CutTo(damaged, d.blobs.path(b.id), at)
		} else {
			err = vfs.FlipBit(damaged, d.blobs.path(b.id), at*8+i%8)
		}
		if err != nil {
			t.Fatal(err)
		}
		r, err := openBlob(damaged, sampleDir, b.id)
		var got []byte
		for err == nil {
			var part []byte
			part, err = r.Next()
			got = append(got, part...)
		}
		if errors.Is(err, io.EOF) || !errors.Is(err, seglog.ErrDamaged) {
			t.Fatalf("byte %d, cut %t: %v", at, cut, err)
		}
		if !bytes.Equal(got, body[:len(got)]) || !cut && len(got) > int(max(at-blobHeaderBytes, 0)) && at < blobHeaderBytes+int64(len(body)) {
			t.Fatalf("byte %d, cut %t: %d bytes have been given out", at, cut, len(got))
		}
		if r != nil {
			r.Close()
		}
	}
}

// TestBlobEveryOperationFails: after any error there is no blob and no file, and
// another one can be written.
func TestBlobEveryOperationFails(t *testing.T) {
	body := blobBody(200_000)
	for _, what := range []error{syscall.EIO, syscall.ENOSPC} {
		for k := 1; ; k++ {
			mem := vfs.NewMem()
			fault := vfs.NewFault(mem)
			d := openPlain(t, fault)
			rng := rand.New(rand.NewPCG(uint64(k), 1))
			struck := fault.Add(vfs.Rule{Kinds: vfs.OpsChange &^ vfs.OpRemove, Nth: k, Err: what, ShortBytes: int64(k%3) * 700})
			b, err := upload(d, body, rng)
			if struck() == 0 {
				if err != nil {
					t.Error(err)
				}
				if k < 6 {
					t.Errorf("a blob takes %d operations only", k)
				}
				d.Abandon()
				break
			}
			if !errors.Is(err, what) || b != nil {
				t.Errorf("operation %d: %v", k, err)
			}
			if left := blobFiles(t, mem, sampleDir); len(left) > 0 || len(d.blobs.byID) > 0 {
				t.Errorf("operation %d leaves %v, %d known", k, left, len(d.blobs.byID))
			}
			fault.Clear()
			if b, err = upload(d, body, rng); err != nil {
				t.Errorf("after operation %d: %v", k, err)
			} else if got, err := readBlob(b); err != nil || !bytes.Equal(got, body) {
				t.Errorf("after operation %d: %v", k, err)
			}
			d.Abandon()
		}
	}
}

// TestBlobCounts: a blob stays while a message has it, in however many records,
// and until what has ended the last one is durable.
func TestBlobCounts(t *testing.T) {
	fsys := vfs.NewMem()
	d := openPlain(t, fsys)
	rng := rand.New(rand.NewPCG(1, 1))
	d.Define(Definition{Kind: QueueDeclared, ID: 1, VHost: "/", Name: "q"})
	b, err := upload(d, blobBody(100_000), rng)
	if err != nil {
		t.Fatal(err)
	}
	first, second := publishLarge(d, b, 100_000, 1, 0, 2), publishLarge(d, b, 100_000, 1, 1, 1)
	b.Release()
	d.Release(first, 2)
	if err := d.SweepBlobs(); err != nil {
		t.Fatal(err)
	}
	if len(blobFiles(t, fsys, sampleDir)) != 1 || !first.Large() || d.Blob(first) != nil || d.Blob(second) != b {
		t.Errorf("after the first record the files are %v", blobFiles(t, fsys, sampleDir))
	}
	at := d.Facts(1, []queue.Fact{{Kind: queue.Settled, Seq: 1, To: 1}})
	d.Release(second, 1)
	if len(blobFiles(t, fsys, sampleDir)) != 1 {
		t.Error("it goes before anything is durable")
	}
	if err := d.SweepBlobs(); err != nil || d.Durable() < at {
		t.Errorf("swept with %d durable, want %d: %v", d.Durable(), at, err)
	}
	if left := blobFiles(t, fsys, sampleDir); len(left) > 0 || len(d.blobs.heads) > 0 || len(d.blobs.byID) > 0 {
		t.Errorf("left are %v, %d heads", left, len(d.blobs.heads))
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// publishLarge writes the record of a message with its body in a blob, for one
// queue.
func publishLarge(d *Disk, b *Blob, bodyBytes int, id queue.ID, seq queue.Seq, references int) Ref {
	whole := message.Build(nil, "", "q", []byte{0, 0}, make([]byte, bodyBytes), 0)
	p := Published{TTLMillis: -1, Message: whole[:len(whole)-bodyBytes-8]}
	g := d.Reserve(1, PublishedBytes(1, len(p.Message), b), true)
	payload, at := g.Publish(&p, 1, references, b)
	PutQueue(payload, 0, id, seq, true, 0)
	g.Done()
	return at
}

// largeSample is a directory with blobs: one that two queues have, one in each of
// two queues, and one that nobody has.
func largeSample(t *testing.T) *sample {
	t.Helper()
	s := &sample{t: t, fs: vfs.NewMem(), want: map[string]map[queue.Seq]string{}, acks: map[string]map[queue.Seq]string{},
		next: map[string]queue.Seq{}, ids: map[string]queue.ID{}}
	s.on = s.fs
	s.open()
	s.define("a", "b")
	rng := rand.New(rand.NewPCG(1, 1))
	for i, names := range [][]string{{"a", "b"}, {"a"}, {"b"}} {
		body := blobBody(100_000 + i*70_000)
		b, err := upload(s.d, body, rng)
		s.must(err)
		for _, name := range names {
			publishLarge(s.d, b, len(body), s.ids[name], s.next[name], 1)
			s.want[name][s.next[name]] = string(body)
			s.next[name]++
		}
		s.publish(i, names...)
	}
	_, err := upload(s.d, blobBody(1000), rng)
	s.must(err)
	s.close()
	return s
}

// TestInspectBlobs: whole, with one damaged and one missing.
func TestInspectBlobs(t *testing.T) {
	s := largeSample(t)
	in, err := Inspect(s.fs, sampleDir)
	s.must(err)
	if in.Damaged() || in.Blobs != 3 || in.LeftBlobs != 1 || in.BlobBytes != BlobBytes(100_000)+BlobBytes(170_000)+BlobBytes(240_000) {
		t.Errorf("damaged %t, %d blobs of %d bytes, %d left", in.Damaged(), in.Blobs, in.BlobBytes, in.LeftBlobs)
	}
	if got := contents(t, in); fmt.Sprint(got) != fmt.Sprint(s.want) {
		t.Error("the queues do not hold what they should")
	}
	in.Close()
	salvaged(t, s.fs.Clone(), s, true)
	for i, name := range blobFiles(t, s.fs, sampleDir) {
		fs := s.fs.Clone()
		if i%2 == 0 {
			s.must(fs.Remove(path.Join(sampleDir, name)))
		} else {
			s.must(vfs.FlipBit(fs, path.Join(sampleDir, name), 8*700))
		}
		in, err := Inspect(fs, sampleDir)
		s.must(err)
		lost := 0
		for _, q := range in.Queues {
			for _, u := range q.Unreadable {
				lost++
				if u.File != name {
					t.Errorf("%s is damaged, %s is named", name, u.File)
				}
			}
		}
		size, _ := s.fs.Stat(path.Join(sampleDir, name))
		switch want := map[int64]int{BlobBytes(100_000): 2, BlobBytes(1000): 0}[size]; {
		case size > BlobBytes(100_000):
			want = 1
			fallthrough
		default:
			if lost != want || in.Damaged() != (want > 0) {
				t.Errorf("of %s (%d bytes) %d messages are lost, want %d", name, size, lost, want)
			}
		}
		in.Close()
		salvaged(t, fs, s, false)
	}
}
