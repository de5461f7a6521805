package config

import (
	"testing"
	"time"
)

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "16777216": 1 << 24, "1B": 1, "1KiB": 1024, "512MiB": 512 << 20, "2gib": 2 << 30, "1TiB": 1 << 40,
		"1KB": 1000, "1.5GB": 15e8, " 3 MiB ": 3 << 20, "0.5KiB": 512,
	} {
		if got, err := parseBytes(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "1K", "1M", "x", "MiB", "1e3", "0x10", "NaN", "Inf", "9223372036854775808", "9999999TiB", "1.5.1"} {
		if got, err := parseBytes(text); err == nil {
			t.Errorf("%q was read as %d", text, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]Size{"60%": {Percent: 60}, "100 %": {Percent: 100}, "1GiB": {Bytes: 1 << 30}} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"0", "0%", "101%", "-5%", "1.5%", "%", "much"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
	if got := (Size{Percent: 60}).In(1000); got != 600 {
		t.Errorf("60%% of 1000 is %d", got)
	}
	if got := (Size{Bytes: 5}).In(1000); got != 5 {
		t.Errorf("5 bytes of 1000 are %d", got)
	}
}

func TestSizesPrintAsTheyParse(t *testing.T) {
	for _, n := range []int64{1, 1023, 1024, 1536, 16 << 20, 3 << 30, 1<<30 + 1} {
		if got, err := parseBytes(formatBytes(n)); err != nil || got != n {
			t.Errorf("%d prints as %s, which reads as %d, %v", n, formatBytes(n), got, err)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"60": time.Minute, "0": 0, "1m30s": 90 * time.Second, "500ms": 500 * time.Millisecond} {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "-1s", "soon", "1.5"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func TestParseMeminfo(t *testing.T) {
	got, ok := parseMeminfo("MemTotal:       16318480 kB\nMemFree: 1 kB\n")
	if !ok || got != 16318480<<10 {
		t.Errorf("got %d, %v", got, ok)
	}
	if _, ok := parseMeminfo("MemFree: 1 kB\n"); ok {
		t.Error("found a total where there is none")
	}
	if n := UsableMemoryBytes(); n < 1<<20 {
		t.Errorf("this machine has %d bytes?", n)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"listen", "limits.frame_max", "limits.channel_max", "log.level", "users", "vhosts"}
	for word, want := range map[string]string{
		"lsiten": "listen", "limits.frame_maxx": "limits.frame_max", "frame_max": "limits.frame_max", "user": "users",
		"loglevel": "log.level", "vho": "vhosts", "colour": "", "": "", "x": "",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}
