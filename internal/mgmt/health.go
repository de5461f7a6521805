package mgmt

import (
	"net/http"
	"slices"
	"strconv"
)

func (q *request) healthy() error { return q.reply(object{{"status", "ok"}}) }

func (q *request) unhealthy(reason string, more ...member) error {
	o := append(object{{"status", "failed"}, {"reason", reason}}, more...)
	q.send(http.StatusServiceUnavailable, o)
	return nil
}

// alarms fails while an alarm blocks publishers.
func (q *request) alarms() error {
	n := q.api.Sums.NodeStatus()
	var up []object
	if n.MemoryAlarm {
		up = append(up, object{{"node", q.api.NodeName}, {"resource", "memory"}})
	}
	if n.DiskAlarm {
		up = append(up, object{{"node", q.api.NodeName}, {"resource", "disk"}})
	}
	if len(up) > 0 {
		return q.unhealthy("There are alarms in effect in the cluster", member{"alarms", up})
	}
	return q.healthy()
}

// inService fails when the data directory has failed: nothing is confirmed then.
func (q *request) inService() error {
	if err := q.api.Sums.NodeStatus().Failed; err != nil {
		return q.unhealthy("the data directory has failed: " + err.Error())
	}
	return q.healthy()
}

func (q *request) quorumCritical() error {
	return q.reply(object{{"status", "ok"}, {"reason", "single node cluster"}})
}

func (q *request) portListener() error {
	port, err := strconv.Atoi(q.params[0])
	if err != nil {
		return badRequest("Invalid port")
	}
	ports := []int{}
	for _, l := range q.api.Listeners() {
		if l.Port == port {
			return q.reply(object{{"status", "ok"}, {"port", port}})
		}
		ports = append(ports, l.Port)
	}
	return q.unhealthy("No active listener", member{"missing", port}, member{"ports", ports})
}

func (q *request) protocolListener() error {
	protocols := []string{}
	for _, l := range q.api.Listeners() {
		if !slices.Contains(protocols, l.Protocol) {
			protocols = append(protocols, l.Protocol)
		}
	}
	slices.Sort(protocols)
	for _, name := range protocolNames(q.params[0]) {
		if slices.Contains(protocols, name) {
			return q.reply(object{{"status", "ok"}, {"protocols", protocols}})
		}
	}
	return q.unhealthy("No active listener", member{"missing", []string{q.params[0]}}, member{"protocols", protocols})
}

// protocolNames are the names under which RabbitMQ knows a protocol.
func protocolNames(name string) []string {
	switch name {
	case "amqp091", "amqp0.9.1", "amqp":
		return []string{"amqp"}
	}
	return []string{name}
}

// alive is aliveness-test: the virtual host is there and the broker confirms. It
// does not declare a queue, as RabbitMQ before 4.0 did.
func (q *request) alive() error {
	if _, err := q.vhost(0); err != nil {
		return err
	}
	return q.inService()
}

// connectionLimit fails once no more connections are admitted.
func (q *request) connectionLimit() error {
	open, limit := len(q.api.Clients.Connections()), q.api.MaxConnections
	if limit > 0 && open >= limit {
		return q.unhealthy("node connection limit is reached", member{"limit", limit}, member{"connections", open})
	}
	return q.healthy()
}
