package store

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/vfs"
)

// withBlobs is a directory with a checkpoint with a blob that two queues have, and
// behind it a blob, a small message, and the end of one that was there before.
func withBlobs(t *testing.T) *sample {
	s := &sample{t: t, fs: vfs.NewMem(), want: map[string]map[queue.Seq]string{}, acks: map[string]map[queue.Seq]string{},
		next: map[string]queue.Seq{}, ids: map[string]queue.ID{}}
	s.on = s.fs
	s.open()
	s.define("a", "b")
	s.large(300, "a", "b")
	s.publish(1, "a")
	s.publish(2, "b")
	s.checkpoint()
	s.large(400, "b")
	s.publish(3, "a")
	s.settle("a", 0, 1)
	s.close()
	return s
}

// large puts a message with its body in a blob into queues.
func (s *sample) large(bodyBytes int, queues ...string) {
	body := blobBody(bodyBytes)
	b, err := upload(s.d, body, rand.New(rand.NewPCG(1, 1)))
	s.must(err)
	for _, name := range queues {
		publishLarge(s.d, b, bodyBytes, s.ids[name], s.next[name], 1)
		s.want[name][s.next[name]] = string(body)
		s.next[name]++
	}
}

// TestBlobsAndACheckpoint looks at such a directory, and starts on it.
func TestBlobsAndACheckpoint(t *testing.T) {
	s := withBlobs(t)
	in, err := Inspect(s.fs, sampleDir)
	s.must(err)
	if in.Damaged() || in.Checkpoint == "" || in.Blobs != 2 {
		t.Errorf("damaged %t %v, checkpoint %q, %d blobs", in.Damaged(), in.Bad, in.Checkpoint, in.Blobs)
	}
	if got := contents(t, in); !maps.EqualFunc(got, s.want, maps.Equal) {
		t.Error("the queues do not hold what they should")
	}
	in.Close()
	l := &keeping{held: map[queue.ID]map[queue.Seq]Ref{}}
	d, _, err := OpenDisk(DiskConfig{FS: s.fs, Dir: sampleDir}, l)
	s.must(err)
	defer d.Abandon()
	for name, messages := range s.want {
		if len(l.held[s.ids[name]]) != len(messages) {
			t.Errorf("queue %s has %d messages, want %d", name, len(l.held[s.ids[name]]), len(messages))
		}
		for seq, body := range messages {
			r := l.held[s.ids[name]][seq]
			if s.must(d.Load(r)); r.Large() {
				got, err := readBlob(d.Blob(r))
				if s.must(err); !bytes.Equal(got, []byte(body)) {
					t.Errorf("queue %s: message %d has another body", name, seq)
				}
			}
		}
	}
}

// keeping takes every message of a start.
type keeping struct {
	nothing
	held map[queue.ID]map[queue.Seq]Ref
	disk Recovery
}

func (k *keeping) Begin(d Recovery) { k.disk = d }

func (k *keeping) put(id queue.ID, seq queue.Seq, at Ref) {
	if k.held[id] == nil {
		k.held[id] = map[queue.Seq]Ref{}
	}
	k.held[id][seq] = at
}

func (k *keeping) Publish(p *Published, at Ref) (n int, err error) {
	p.Queues(func(id queue.ID, seq queue.Seq, _ uint32) {
		n++
		k.put(id, seq, at)
	})
	return n, nil
}

func (k *keeping) Page(id queue.ID, img *queue.Image) bool {
	img.Each(func(i int) { k.put(id, queue.Seq(img.Number*queue.PageLen+uint64(i)), Ref(img.Entries[i].Ref)) })
	return true
}

func (k *keeping) Fact(id queue.ID, f queue.Fact) error {
	if f.Kind == queue.Settled {
		for seq := f.Seq; seq <= f.To; seq++ {
			if r, ok := k.held[id][seq]; ok {
				k.disk.Release(r, 1)
				delete(k.held[id], seq)
			}
		}
	}
	return nil
}
