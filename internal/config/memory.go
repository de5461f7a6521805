package config

import (
	"os"
	"strconv"
	"strings"
)

// assumedMemoryBytes is what a share refers to where the system does not tell.
const assumedMemoryBytes = 2 << 30

// UsableMemoryBytes is the memory this process may use: the machine's, or the
// control group's limit if that is lower. Linux tells both through files; on
// other systems 2 GiB is assumed, so give memory_limit in bytes there.
func UsableMemoryBytes() int64 {
	total := int64(assumedMemoryBytes)
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		if n, ok := parseMeminfo(string(data)); ok {
			total = n
		}
	}
	for _, name := range [...]string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		// "max" (version 2) and absurdly large numbers (version 1) mean no limit.
		if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && n > 0 {
			total = min(total, n)
		}
	}
	return total
}

// parseMeminfo finds "MemTotal: N kB" (proc(5); kB there is 1024 bytes).
func parseMeminfo(text string) (int64, bool) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "MemTotal:")
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) == 2 && fields[1] == "kB" {
			n, err := strconv.ParseInt(fields[0], 10, 64)
			return n << 10, err == nil
		}
	}
	return 0, false
}
