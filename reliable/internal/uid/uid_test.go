package uid

import (
	"regexp"
	"sync"
	"testing"
	"time"
)

func TestForm(t *testing.T) {
	var g Generator
	id := g.New(time.UnixMilli(0x0123456789ab))
	if !regexp.MustCompile(`^01234567-89ab-7000-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
		t.Fatalf("%s is not a version 7 UUID of that time", id)
	}
}

func TestAscend(t *testing.T) {
	var g Generator
	now := time.UnixMilli(1)
	last := ""
	for i := range 10_000 { // more than fit into a millisecond
		if i == 5000 {
			now = now.Add(-time.Hour)
		}
		id := g.New(now)
		if id <= last {
			t.Fatalf("id %d: %s after %s", i, id, last)
		}
		last = id
	}
}

func TestUniqueAcrossGoroutines(t *testing.T) {
	var g Generator
	const makers, each = 8, 2000
	made := make([][]string, makers)
	var wg sync.WaitGroup
	for m := range makers {
		wg.Go(func() {
			for range each {
				made[m] = append(made[m], g.New(time.UnixMilli(5)))
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, ids := range made {
		for _, id := range ids {
			if seen[id] {
				t.Fatalf("%s was made twice", id)
			}
			seen[id] = true
		}
	}
}

func BenchmarkNew(b *testing.B) {
	var g Generator
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		g.New(now)
	}
}
