package seglog

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
)

// BenchmarkDatasync is the floor: one page written and synced into a file that is
// there in full.
func BenchmarkDatasync(b *testing.B) {
	f, err := vfs.OS{}.Create(filepath.Join(b.TempDir(), "floor"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const size = 64 << 20
	if err := f.ZeroFill(size); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	page := make([]byte, pageBytes)
	for i := 0; b.Loop(); i++ {
		if _, err := f.WriteAt(page, int64(i)*pageBytes%size); err != nil {
			b.Fatal(err)
		}
		if err := f.Datasync(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "syncs/s")
}

// BenchmarkAppend appends records of 1 KB, with so many of them not yet durable
// at any time.
func BenchmarkAppend(b *testing.B) {
	for _, window := range []int{1, 16, 256, 4096} {
		b.Run(fmt.Sprintf("window=%d", window), func(b *testing.B) {
			l, _, err := Open(Config{FS: vfs.OS{}, Dir: b.TempDir()}, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			body := make([]byte, 1024)
			b.SetBytes(1024)
			for b.Loop() {
				if err := l.WaitRoom(); err != nil {
					b.Fatal(err)
				}
				r := l.Reserve(1, RecordOverhead+len(body), true)
				payload, _, lsn := r.Add(1, len(body))
				copy(payload, body)
				r.Done()
				if lsn >= LSN(window) {
					if err := l.WaitDurable(lsn + 2 - LSN(window)); err != nil {
						b.Fatal(err)
					}
				}
				if files := l.Files(); len(files) > 3 {
					_ = l.Drop(files[0].Number) // not yet, if the next one is not on the disk
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
