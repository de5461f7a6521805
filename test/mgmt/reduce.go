package mgmt

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// decided are the members whose values the scene decides. Of all others only the
// type is compared.
func decided(key string) bool {
	return strings.Contains(" name vhost type durable auto_delete exclusive internal internal_owner description tracing "+
		"messages messages_ready messages_unacknowledged message_bytes message_bytes_ready message_bytes_unacknowledged "+
		"consumers consumer_tag consumer_count ack_required active activity_status prefetch_count exclusive_consumer_tag "+
		"single_active_consumer_tag source destination destination_type routing_key properties_key status reason error "+
		"user tags configure write read state policy operator_policy confirm number page page_size page_count filtered_count "+
		"item_count total_count routed payload payload_bytes payload_encoding redelivered message_count protocol ssl "+
		"channel_max timeout frame_max user_provided_name transactional is_internal_user default_queue_type "+
		"publish deliver deliver_no_ack deliver_get get get_no_ack get_empty redeliver ack return_unroutable drop_unroutable "+
		"peer_host host auth_mechanism hashing_algorithm disable_stats rates_mode running rabbitmq_definition_format channels ",
		" "+key+" ")
}

// wholly are the members of which everything is compared, however deep.
func wholly(key string) bool {
	return key == "arguments" || key == "properties" || key == "client_properties"
}

// shallow are the members of which only the type is compared: lists of what a
// broker is made of.
func shallow(key string) bool {
	return strings.Contains(" applications listeners contexts exchange_types auth_mechanisms sample_retention_policies log_files "+
		"config_files enabled_plugins protocols ports missing cluster_state partitions global_parameters cluster_tags "+
		"node_tags ra_open_file_metrics metrics_gc_queue_length cluster_links vhosts permissions ", " "+key+" ")
}

var (
	peerPort = regexp.MustCompile(`127\.0\.0\.1:\d+ -> 127\.0\.0\.1:\d+`)
	argsHash = regexp.MustCompile(`~[A-Za-z0-9_-]{6}$`)
	nodeName = regexp.MustCompile(`[a-z]+@[A-Za-z0-9.-]+`)
)

// unordered are the lists in which RabbitMQ keeps no order.
func unordered(key string) bool {
	return key == "queues" || key == "exchanges" || key == "bindings" || key == "consumer_details"
}

// ofClients tells whether a list has connections or channels, which are sorted by
// names with port numbers in them.
func ofClients(list []any) bool {
	if len(list) == 0 {
		return false
	}
	row, _ := list[0].(map[string]any)
	return row["client_properties"] != nil || row["connection_details"] != nil
}

// Shape keeps of a JSON value the types only, and of a list its first element.
func Shape(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			if out[k] = "<array>"; !shallow(k) {
				out[k] = Shape(x)
			}
			if k == "arguments" {
				out[k] = "<object>"
			}
		}
		return out
	case []any:
		if len(v) == 0 {
			return v
		}
		return []any{Shape(v[0])}
	}
	return reduce("", v, false)
}

// Reduce keeps of a JSON value what must be the same on every broker. A number
// becomes "<number>", a string "<string>", and so on, where its value depends on
// the broker or on time.
func Reduce(v any) any { return reduce("", v, false) }

func reduce(key string, v any, whole bool) any {
	switch v := v.(type) {
	case map[string]any:
		if shallow(key) && !whole {
			return "<object>"
		}
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = reduce(k, x, whole || wholly(k))
		}
		return out
	case []any:
		if shallow(key) && !whole {
			return "<array>"
		}
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = reduce(key, x, whole)
		}
		if unordered(key) || ofClients(out) {
			slices.SortFunc(out, func(a, b any) int { return strings.Compare(text(a), text(b)) })
		}
		return out
	case nil:
		return nil
	case string:
		if !whole && !decided(key) {
			return "<string>"
		}
		v = peerPort.ReplaceAllString(v, "PEER -> SERVER")
		if key == "properties_key" {
			v = argsHash.ReplaceAllString(v, "~HASH")
		}
		if key == "name" && nodeName.MatchString(v) {
			return "NODE"
		}
		return v
	case bool:
		if !whole && !decided(key) {
			return "<bool>"
		}
		return v
	}
	if !whole && !decided(key) {
		return "<number>"
	}
	return v
}

// text is a value as one string, to sort by.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error() // cannot be: it came out of JSON
	}
	return string(b)
}
