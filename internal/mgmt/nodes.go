package mgmt

import (
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
)

func itoa(n int) string { return strconv.Itoa(n) }

func (q *request) listNodes() error { return q.reply([]object{q.nodeRow()}) }

func (q *request) getNode() error {
	if q.params[0] != q.api.NodeName {
		return errNotFound()
	}
	return q.reply(q.nodeRow())
}

// processMemory is what the Go runtime has from the system, less what it has
// given back. Reading it stops nothing.
func processMemory() (bytes uint64, collections uint64) {
	samples := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/gc/cycles/total:gc-cycles"},
	}
	metrics.Read(samples)
	for _, s := range samples {
		if s.Value.Kind() != metrics.KindUint64 {
			return 0, 0 // another runtime than the one this was written for
		}
	}
	return samples[0].Value.Uint64() - samples[1].Value.Uint64(), samples[2].Value.Uint64()
}

// fileDescriptors is how many are open, and how many may be; 0 where there is no
// /proc to tell.
func fileDescriptors() (used, limit int) {
	if dir, err := os.Open("/proc/self/fd"); err == nil {
		names, _ := dir.Readdirnames(-1) // what could be read counts
		dir.Close()
		used = len(names)
	}
	text, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		return used, 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			if fields := strings.Fields(rest); len(fields) > 0 {
				limit, _ = strconv.Atoi(fields[0]) // "unlimited" is 0
			}
		}
	}
	return used, limit
}

func (q *request) nodeRow() object {
	n := q.api.Sums.NodeStatus()
	memory, collections := processMemory()
	files, maxFiles := fileDescriptors()
	connections := len(q.api.Clients.Connections())
	mechanisms := []object{}
	for _, name := range []string{"AMQPLAIN", "PLAIN"} {
		mechanisms = append(mechanisms, object{{"name", name}, {"description", "SASL " + name + " authentication mechanism"}, {"enabled", true}})
	}
	o := object{
		{"name", q.api.NodeName}, {"type", "disc"}, {"running", n.Failed == nil}, {"being_drained", false}, {"partitions", []any{}},
		{"os_pid", itoa(os.Getpid())}, {"uptime", q.api.Now().Sub(n.Started).Milliseconds()}, {"processors", runtime.NumCPU()},
		{"rates_mode", "basic"}, {"run_queue", 0}, {"mem_calculation_strategy", "runtime"},
		{"mem_limit", n.MemoryLimitBytes}, {"mem_alarm", n.MemoryAlarm},
		{"disk_free_limit", n.DiskFreeLimit}, {"disk_free_alarm", n.DiskAlarm},
		{"exchange_types", exchangeTypes()}, {"auth_mechanisms", mechanisms}, {"applications", []any{}},
		{"contexts", q.contexts(false)}, {"log_files", []any{}}, {"config_files", []any{}}, {"enabled_plugins", []any{}},
		{"db_dir", n.Dir}, {"net_ticktime", 60}, {"rabbitmq_version", APIVersion},
		{"erlang_version", runtime.Version()}, {"erlang_full_version", "no Erlang: " + runtime.Version()}, {"crypto_lib_version", "Go crypto"},
		{"fd_total", maxFiles}, {"sockets_total", maxFiles}, {"proc_total", 0}, {"cluster_links", []any{}}, {"metrics_gc_queue_length", object{}},
		{"ra_open_file_metrics", object{}},
	}
	o = counted(o, "mem_used", memory, 0)
	o = counted(o, "fd_used", files, 0)
	o = counted(o, "sockets_used", connections, 0)
	o = counted(o, "proc_used", runtime.NumGoroutine(), 0)
	o = counted(o, "disk_free", n.DiskFree, 0)
	o = counted(o, "gc_num", collections, 0)
	return append(o, churn(n.Churn)...)
}
