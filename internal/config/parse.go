package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, or a share of the memory this process may use.
type Size struct {
	Bytes   int64
	Percent int // 1 to 100; 0: Bytes counts
}

// In returns the size in bytes when the process may use totalBytes.
func (s Size) In(totalBytes int64) int64 {
	if s.Percent == 0 {
		return s.Bytes
	}
	return totalBytes / 100 * int64(s.Percent)
}

// String is the form that parseSize reads.
func (s Size) String() string {
	if s.Percent != 0 {
		return strconv.Itoa(s.Percent) + "%"
	}
	return formatBytes(s.Bytes)
}

func parseSize(text string) (Size, error) {
	if number, ok := strings.CutSuffix(text, "%"); ok {
		n, err := strconv.Atoi(strings.TrimSpace(number))
		if err != nil || n < 1 || n > 100 {
			return Size{}, fmt.Errorf("%q is not a share from 1%% to 100%%", text)
		}
		return Size{Percent: n}, nil
	}
	n, err := parseBytes(text)
	if err != nil {
		return Size{}, fmt.Errorf("%q is neither a size (512MiB) nor a share of the memory (60%%)", text)
	}
	if n <= 0 {
		return Size{}, errors.New("must be more than 0 bytes")
	}
	return Size{Bytes: n}, nil
}

// byteUnits is in the order of trying: a unit before its own suffix.
var byteUnits = [...]struct {
	suffix string
	bytes  int64
}{
	{"KIB", 1 << 10}, {"MIB", 1 << 20}, {"GIB", 1 << 30}, {"TIB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// parseBytes reads 1048576, 512MiB, 1.5GB. Units in any case; K alone is not a
// unit, because nobody agrees on what it means.
func parseBytes(text string) (int64, error) {
	number, factor := strings.ToUpper(strings.TrimSpace(text)), int64(1)
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		if n < 0 || n > math.MaxInt64/factor {
			return 0, fmt.Errorf("%q is out of range", text)
		}
		return n * factor, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || !(f >= 0 && f*float64(factor) < 1<<62) || strings.ContainsAny(number, "EXP_IN") {
		return 0, fmt.Errorf("%q is not a size such as 16777216, 512MiB or 1.5GB", text)
	}
	return int64(f * float64(factor)), nil
}

// formatBytes writes the largest unit that divides n; units of 1024 come first.
func formatBytes(n int64) string {
	for _, u := range [...]struct {
		name  string
		bytes int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"GB", 1e9}, {"MB", 1e6}, {"KiB", 1 << 10}} {
		if n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// parseDuration reads 90s, 1m30s, 500ms, or whole seconds.
func parseDuration(text string) (time.Duration, error) {
	if n, err := strconv.ParseInt(text, 10, 32); err == nil && n >= 0 {
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration such as 10s, 500ms or 90 (seconds)", text)
	}
	return d, nil
}

func parseInt(text string, low, high int64) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", text)
	}
	if n < low || n > high {
		return 0, fmt.Errorf("%d is out of range, it must be from %d to %d", n, low, high)
	}
	return n, nil
}

func parseListen(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return fmt.Errorf("%q is not an address such as :5672 or 127.0.0.1:5672", text)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("the port of %q must be a number from 0 (any free port) to 65535", text)
	}
	return nil
}

func parseLevel(text string) (slog.Level, error) {
	switch strings.ToLower(text) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("%q is not a log level, choose debug, info, warn or error", text)
}

// splitUser cuts NAME:SECRET at the first colon. The error does not repeat the
// text, which holds the secret.
func splitUser(text string) (name, secret string, err error) {
	name, secret, ok := strings.Cut(text, ":")
	if !ok || name == "" || secret == "" {
		return "", "", errors.New("want NAME:SECRET with both parts there (the value is not shown, it may hold a password)")
	}
	return name, secret, nil
}
