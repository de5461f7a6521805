package store

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/seglog"
)

// Records calls f for every record that can be read.
func (in *Inspection) Records(f func(seglog.Entry) error) error {
	_, err := in.checker.Scan(f)
	return err
}

// ErrNotEmpty says that salvage would mix with what is there.
var ErrNotEmpty = errors.New("the directory is not empty")

// Salvage writes everything that could be read to a new directory.
func (in *Inspection) Salvage(dir string) error {
	names, err := in.fs.List(dir)
	if err == nil && len(names) > 0 {
		return fmt.Errorf("%s: %w", dir, ErrNotEmpty)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d, _, err := OpenDisk(DiskConfig{FS: in.fs, Dir: dir}, nothing{})
	if err != nil {
		return err
	}
	defs := slices.Concat(in.Exchanges, nil)
	for _, q := range in.Queues {
		defs = append(defs, q.Definition)
	}
	defs = append(append(defs, in.Bindings...), Definition{Kind: Counters, ID: in.LastID})
	d.Define(defs...)
	copied := map[uint64]*Blob{}
	err = in.Records(func(e seglog.Entry) error {
		return in.eachHeld(e, func(p *Published, holders []holder) error {
			if p.Blob != 0 && copied[p.Blob] == nil {
				b, err := in.copyBlob(d, p)
				if err != nil {
					return err
				}
				copied[p.Blob] = b
			}
			return copyHeld(d, p, holders, copied[p.Blob])
		})
	})
	for _, q := range in.Queues {
		if err == nil {
			err = copyFacts(d, q)
		}
	}
	if err == nil {
		err = d.WaitDurable(d.End())
	}
	if err != nil {
		d.Abandon()
		return err
	}
	return d.Close()
}

// copyHeld writes a message for the queues that hold it.
func copyHeld(d *Disk, p *Published, holders []holder, blob *Blob) error {
	if err := d.WaitRoom(); err != nil {
		return err
	}
	g := d.Reserve(1, PublishedBytes(len(holders), len(p.Message), blob), false)
	b, _ := g.Publish(p, len(holders), len(holders), blob)
	for i, h := range holders {
		PutQueue(b, i, queue.ID(h.q.ID), h.seq, true, h.count)
	}
	g.Done()
	return nil
}

// copyFacts writes which messages were delivered before and have come back.
func copyFacts(d *Disk, q *InspectedQueue) error {
	var at queue.Cursor
	for more := true; more; {
		var facts []queue.Fact
		more = q.m.Walk(&at, func(h queue.Held) {
			if h.Tries.Returned > 0 {
				facts = append(facts, queue.Fact{Kind: queue.Returned, Seq: h.Seq, Tries: h.Tries})
			}
			if h.Unsettled || h.Entry.Flags&queue.Redelivered != 0 && h.Tries.Returned == 0 {
				facts = append(facts, queue.Fact{Kind: queue.Delivered, Seq: h.Seq, To: h.Seq})
			}
			if h.Died != 0 {
				facts = append(facts, queue.Fact{Kind: queue.Died, Seq: h.Seq, Reason: h.Died})
			}
		})
		if err := d.WaitRoom(); err != nil {
			return err
		}
		d.Facts(queue.ID(q.ID), facts)
	}
	return nil
}

// nothing restores nothing: for a directory that is empty.
type nothing struct{}

func (nothing) Begin(Recovery)                         {}
func (nothing) Publish(*Published, Ref) (int, error)   { return 0, nil }
func (nothing) Fact(queue.ID, queue.Fact) error        { return nil }
func (nothing) Define(*Definition) error               { return nil }
func (nothing) Tails(queue.ID, []uint64)               {}
func (nothing) Page(queue.ID, *queue.Image) bool       { return false }
func (nothing) ColdPage(queue.ID, queue.ColdPage) bool { return false }
