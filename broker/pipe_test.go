package broker

import (
	"bytes"
	"io"
	"testing"
	"time"
)

func TestWriteNow(t *testing.T) {
	client, server := pipe()
	end := client.(*pipeEnd)
	piece := bytes.Repeat([]byte("0123456789"), 1000)
	var sent []byte
	for round := range 3 { // later the ring's room goes round its end
		for {
			n, err := end.WriteNow(piece)
			if err != nil {
				t.Fatal(err)
			}
			sent = append(sent, piece[:n]...)
			if n < len(piece) {
				break
			}
		}
		if len(sent) != pipeBytes {
			t.Fatalf("round %d: the pipe holds %d bytes, not %d", round, len(sent), pipeBytes)
		}
		if n, err := end.WriteNow(piece); n != 0 || err != nil {
			t.Fatalf("a full pipe has taken %d bytes: %v", n, err)
		}
		got := make([]byte, pipeBytes-12_345)
		if _, err := io.ReadFull(server, got); err != nil || !bytes.Equal(got, sent[:len(got)]) {
			t.Fatalf("round %d: other bytes arrived: %v", round, err)
		}
		sent = sent[len(got):]
	}
	server.Close()
	if _, err := end.WriteNow(piece); err == nil {
		t.Fatal("no error after the peer is gone")
	}
}

// A closed connection leaves no timer behind, which would keep it in memory.
func TestClosedPipesHaveNoTimers(t *testing.T) {
	client, server := pipe()
	for _, conn := range []*pipeEnd{client.(*pipeEnd), server.(*pipeEnd)} {
		conn.SetDeadline(time.Now().Add(time.Hour))
		if conn.in.readLimit.timer == nil || conn.out.writeLimit.timer == nil {
			t.Fatal("a deadline has no timer")
		}
		conn.Close()
		conn.SetDeadline(time.Now().Add(time.Hour)) // clients do
		if conn.in.readLimit.timer != nil || conn.out.writeLimit.timer != nil {
			t.Fatal("a closed connection has a timer")
		}
	}
}
