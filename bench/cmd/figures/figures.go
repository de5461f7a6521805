package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/warrenmq/warren/internal/benchsuite"
)

func perSecond(n uint64, d time.Duration) float64 { return float64(n) / d.Seconds() }

// rate publishes over so many channels and returns confirms a second, once with
// a consumer.
func (r *run) rate(data string, channels, window, bodyBytes, prefetch int, consume bool) (float64, error) {
	p, err := r.start(data)
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(filepath.Join(r.dir, data))
	defer p.kill()
	f, err := newPublisher(p, channels, window, bodyBytes)
	if err != nil {
		return 0, err
	}
	if consume {
		k, err := newConsumer(p, channels, prefetch, 100)
		if err != nil {
			return 0, err
		}
		defer k.close()
	}
	if _, _, err := f.until(0, r.duration/4); err != nil { // warm up
		return 0, err
	}
	n, took, err := f.until(0, r.duration)
	return perSecond(n, took), err
}

// latency: one publish at a time. Disk and broker take turns, because the disk
// changes its mind.
func (r *run) latency() error {
	const data, turns = "latency", 10
	p, err := r.start(data)
	if err != nil {
		return err
	}
	defer os.RemoveAll(filepath.Join(r.dir, data))
	defer p.kill()
	f, err := newPublisher(p, 1, 1, 1024)
	if err != nil {
		return err
	}
	raw, err := benchsuite.OpenDisk(r.dir)
	if err != nil {
		return err
	}
	defer raw.Close()
	var syncs int64
	var confirms uint64
	var syncTime, confirmTime time.Duration
	for range turns {
		written, took, err := raw.Syncs(r.duration / turns)
		if err != nil {
			return err
		}
		syncs, syncTime = syncs+written, syncTime+took
		n, took, err := f.until(0, r.duration/turns)
		if err != nil {
			return err
		}
		confirms, confirmTime = confirms+n, confirmTime+took
	}
	disk, broker := perSecond(uint64(syncs), syncTime), perSecond(confirms, confirmTime)
	r.row("raw fdatasync of 4 KiB", fmt.Sprintf("%.0f/s", disk), "")
	r.row("1 KB, one in flight, in turns with it", fmt.Sprintf("%.0f/s = %.2f of raw", broker, broker/disk), "at least 0.50")
	return nil
}

// window: one queue, a window of 256.
func (r *run) window() error {
	rate, err := r.rate("window", 1, 256, 1024, 10_000, true)
	if err == nil {
		r.row("1 KB, window 256, consumer acks by 100", fmt.Sprintf("%.0f/s", rate), "at least 100,000/s")
	}
	return err
}

// fan: many queues over one connection, compared with one queue.
func (r *run) fan() error {
	var one, many float64
	for range 2 { // in turns, because the disk changes its mind
		a, err := r.rate("one", 1, 1000, 1024, 10_000, true)
		if err != nil {
			return err
		}
		b, err := r.rate("many", 100, 10, 1024, 10_000, true)
		if err != nil {
			return err
		}
		one, many = one+a/2, many+b/2
	}
	r.row("1 KB, one queue, window 1000", fmt.Sprintf("%.0f/s", one), "")
	r.row("1 KB, 100 queues over one connection, window 10 each", fmt.Sprintf("%.0f/s = %.2f of one queue", many, many/one), "at least 0.75")
	return nil
}

// memory: a backlog of small messages, what it costs, and how soon the broker is
// back after a kill.
func (r *run) memory() error {
	const data = "memory"
	p, err := r.start(data)
	if err != nil {
		return err
	}
	defer os.RemoveAll(filepath.Join(r.dir, data))
	defer func() { p.kill() }()
	f, err := newPublisher(p, 1, 5000, 100)
	if err != nil {
		return err
	}
	settle := func() int64 {
		time.Sleep(6 * time.Second) // a broker at rest gives memory back after three
		return p.residentBytes()
	}
	empty := settle()
	r.row("resident when empty", fmt.Sprintf("%.1f MB", float64(empty)/1e6), "")
	for _, n := range r.backlogs {
		if _, _, err := f.until(uint64(n), 0); err != nil {
			return err
		}
		busy := p.residentBytes() - empty
		grown := settle() - empty
		r.row(fmt.Sprintf("%.1f million of 100 B: resident less empty (at once)", float64(n)/1e6),
			fmt.Sprintf("%.1f MB (%.1f MB), %.1f B each", float64(grown)/1e6, float64(busy)/1e6, float64(grown)/float64(n)), "at 10 million under 240 MB")
	}
	p.kill()
	start := time.Now()
	p, err = r.start(data)
	if err != nil {
		return err
	}
	serving := time.Since(start)
	k, err := newConsumer(p, 1, 1, 1)
	if err != nil {
		return err
	}
	if err := k.wait(1); err != nil {
		return err
	}
	r.row("the same, from exec after kill -9 to the first delivery", fmt.Sprintf("%.2f s (serving after %.2f s)", time.Since(start).Seconds(), serving.Seconds()), "at 10 million under 2 s")
	k.close()
	r.row("resident less empty after that", fmt.Sprintf("%.1f MB", float64(settle()-empty)/1e6), "")
	return nil
}

// drainRate: a backlog is written, then read.
func (r *run) drainRate() error {
	const data = "drain"
	p, err := r.start(data)
	if err != nil {
		return err
	}
	defer os.RemoveAll(filepath.Join(r.dir, data))
	defer p.kill()
	f, err := newPublisher(p, 1, 2000, 1024)
	if err != nil {
		return err
	}
	n, took, err := f.until(uint64(r.drain), 0)
	if err != nil {
		return err
	}
	written := perSecond(n, took)
	r.row(fmt.Sprintf("a backlog of %d of 1 KB: written", n), fmt.Sprintf("%.0f/s", written), "")
	start := time.Now()
	k, err := newConsumer(p, 1, 1000, 100)
	if err != nil {
		return err
	}
	defer k.close()
	if err := k.wait(n); err != nil {
		return err
	}
	drained := perSecond(n, time.Since(start))
	r.row("drained", fmt.Sprintf("%.0f/s = %.2f of written", drained, drained/written), "at least 1.00")
	return nil
}
