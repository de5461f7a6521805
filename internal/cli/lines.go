package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

type line struct {
	data []byte
	err  error
}

// readLines reads in its own goroutine, because reading stdin cannot be
// interrupted; after ctx ends it lives until the next line or the end of input.
func readLines(ctx context.Context, in io.Reader, end byte) <-chan line {
	out := make(chan line, 64)
	go func() {
		defer close(out)
		r := bufio.NewReaderSize(in, 64<<10)
		for {
			data, err := r.ReadBytes(end)
			if n := len(data); n > 0 && data[n-1] == end {
				data = data[:n-1]
			} else if n == 0 && errors.Is(err, io.EOF) {
				return
			}
			l := line{data: data}
			if err != nil && !errors.Is(err, io.EOF) {
				l = line{err: err}
			}
			select {
			case out <- l:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return out
}

// count is a number with its noun: "1 message", "2 messages".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// lockedWriter lets several goroutines of a command write to one stream.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
