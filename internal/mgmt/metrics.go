package mgmt

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/warrenmq/warren/internal/core/status"
)

// exposition gathers metrics in Prometheus' text format 0.0.4.
type exposition struct{ b strings.Builder }

func (e *exposition) write(kind, name, help, labels string, value float64) {
	fmt.Fprintf(&e.b, "# HELP %s %s\n# TYPE %s %s\n%s%s %s\n",
		name, help, name, kind, name, labels, strconv.FormatFloat(value, 'f', -1, 64))
}

func (e *exposition) gauge(name, help string, value float64) { e.write("gauge", name, help, "", value) }

func (e *exposition) counter(name, help string, value uint64) {
	e.write("counter", name, help, "", float64(value))
}

func (e *exposition) global(name, help string, value uint64) {
	e.write("counter", "rabbitmq_global_"+name, help, `{protocol="amqp091"}`, float64(value))
}

// labelValue escapes a label's value.
func labelValue(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s)
}

// serveMetrics answers GET /metrics: sums over all virtual hosts under the names of
// RabbitMQ's Prometheus plugin. As there, nobody has to log in; no object is named.
func (a *API) serveMetrics(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	var sum status.VHost
	for _, name := range a.Topology.VHosts() {
		sum.Add(a.Sums.VHostStatus(name))
	}
	var e exposition
	a.nodeMetrics(&e)
	e.gauge("rabbitmq_connections", "Connections currently open", float64(sum.Connections))
	e.gauge("rabbitmq_channels", "Channels currently open", float64(sum.Channels))
	e.gauge("rabbitmq_consumers", "Consumers currently connected", float64(sum.Consumers))
	e.gauge("rabbitmq_queues", "Queues available", float64(sum.Queues))
	e.gauge("rabbitmq_exchanges", "Exchanges available", float64(sum.Exchanges))
	e.gauge("rabbitmq_queue_messages_ready", "Messages ready to be delivered to consumers", float64(sum.Ready))
	e.gauge("rabbitmq_queue_messages_unacked", "Messages delivered to consumers but not yet acknowledged", float64(sum.Unacked))
	e.gauge("rabbitmq_queue_messages", "Sum of ready and unacknowledged messages", float64(sum.Ready+sum.Unacked))
	messageMetrics(&e, &sum.Counts)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write([]byte(e.b.String())) // the client may have gone
}

func (a *API) nodeMetrics(e *exposition) {
	n := a.Sums.NodeStatus()
	memory, _ := processMemory()
	e.write("gauge", "rabbitmq_build_info", "Version of the broker", fmt.Sprintf(
		`{rabbitmq_version="%s",product_name="WarrenMQ",product_version="%s"}`, APIVersion, labelValue(a.Version)), 1)
	e.write("gauge", "rabbitmq_identity_info", "Node and cluster", fmt.Sprintf(
		`{rabbitmq_node="%s",rabbitmq_cluster="%s"}`, labelValue(a.NodeName), ClusterName), 1)
	e.gauge("rabbitmq_erlang_uptime_seconds", "Seconds since the broker was started", a.Now().Sub(n.Started).Seconds())
	e.gauge("rabbitmq_process_resident_memory_bytes", "Memory that the process has from the system", float64(memory))
	e.gauge("rabbitmq_resident_memory_limit_bytes", "Memory of message bodies at which publishers are blocked, 0 for none", float64(n.MemoryLimitBytes))
	e.gauge("rabbitmq_alarms_memory_used_watermark", "1 if the memory alarm is in effect", float64(bit(n.MemoryAlarm)))
	e.gauge("rabbitmq_alarms_free_disk_space_watermark", "1 if the disk alarm is in effect", float64(bit(n.DiskAlarm)))
	if n.Dir != "" {
		e.gauge("rabbitmq_disk_space_available_bytes", "Free space in the data directory", float64(n.DiskFree))
		e.gauge("rabbitmq_disk_space_available_limit_bytes", "Free space below which publishers are blocked", float64(n.DiskFreeLimit))
	}
	e.counter("rabbitmq_connections_opened_total", "Connections opened", n.Churn.ConnectionsOpened)
	e.counter("rabbitmq_connections_closed_total", "Connections closed", n.Churn.ConnectionsClosed)
	e.counter("rabbitmq_channels_opened_total", "Channels opened", n.Churn.ChannelsOpened)
	e.counter("rabbitmq_channels_closed_total", "Channels closed", n.Churn.ChannelsClosed)
	e.counter("rabbitmq_queues_declared_total", "Queues declared, those that were there already too", n.Churn.QueuesDeclared)
	e.counter("rabbitmq_queues_created_total", "Queues created", n.Churn.QueuesCreated)
	e.counter("rabbitmq_queues_deleted_total", "Queues deleted", n.Churn.QueuesDeleted)
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func messageMetrics(e *exposition, c *status.Counts) {
	e.global("messages_received_total", "Messages received from publishers", c[status.Publish])
	e.global("messages_confirmed_total", "Messages confirmed to publishers", c[status.Confirm])
	e.global("messages_unroutable_returned_total", "Messages that no queue wanted and that went back", c[status.ReturnUnroutable])
	e.global("messages_unroutable_dropped_total", "Messages that no queue wanted and that were dropped", c[status.DropUnroutable])
	e.global("messages_delivered_total", "Messages handed out, pushed and polled", c.DeliverGet())
	e.global("messages_delivered_consume_manual_ack_total", "Messages delivered to consumers that acknowledge", c[status.Deliver])
	e.global("messages_delivered_consume_auto_ack_total", "Messages delivered to consumers that do not acknowledge", c[status.DeliverNoAck])
	e.global("messages_delivered_get_manual_ack_total", "Messages polled, to be acknowledged", c[status.Get])
	e.global("messages_delivered_get_auto_ack_total", "Messages polled without acknowledgement", c[status.GetNoAck])
	e.global("messages_get_empty_total", "Polls that found nothing", c[status.GetEmpty])
	e.global("messages_redelivered_total", "Messages handed out once more", c[status.Redeliver])
	e.global("messages_acknowledged_total", "Messages acknowledged by consumers", c[status.Ack])
}
