package loadgen

import "time"

// Report is what a load has shown. Counts and rates are of the measured time,
// after the warm-up.
type Report struct {
	Server  string  `json:"server"`
	Seconds float64 `json:"seconds"`

	Published int64 `json:"published"`
	Confirmed int64 `json:"confirmed"` // or committed
	Refused   int64 `json:"refused"`   // basic.nack
	Returned  int64 `json:"returned"`  // basic.return
	Received  int64 `json:"received"`
	Empty     int64 `json:"empty,omitempty"` // answers get-empty

	PublishRate float64 `json:"publish_rate"` // per second; confirmed ones where there are confirms
	ReceiveRate float64 `json:"receive_rate"`

	ConfirmLatency  *Latency `json:"confirm_latency,omitempty"`
	DeliveryLatency *Latency `json:"delivery_latency,omitempty"`

	// Seconds in which nothing went in or came out although it should have, and
	// the seconds of single publishers or consumers for which that holds.
	StalledSeconds       int `json:"stalled_seconds"`
	StalledWorkerSeconds int `json:"stalled_worker_seconds"`
	BlockedSeconds       int `json:"blocked_seconds"` // with connection.blocked in force

	ClientCPU           float64 `json:"client_cpu_seconds"`
	ClientCPUPerMillion float64 `json:"client_cpu_per_million"`
	Broker              *Usage  `json:"broker,omitempty"`

	Operations    int64   `json:"operations,omitempty"` // connections or channels, of Churn and Idle
	OperationRate float64 `json:"operation_rate,omitempty"`

	Interrupted bool     `json:"interrupted,omitempty"`
	Samples     []Sample `json:"samples,omitempty"`
}

// Usage is what the broker's process has used.
type Usage struct {
	CPUSeconds    float64 `json:"cpu_seconds"`
	CPUPerMillion float64 `json:"cpu_per_million"` // seconds per million messages (or operations)
	RSSBefore     int64   `json:"rss_before_bytes"`
	RSSAfter      int64   `json:"rss_after_bytes"`
	RSSMax        int64   `json:"rss_max_bytes"`
	RSSSettled    int64   `json:"rss_settled_bytes"` // Config.Settle later
}

// Sample is one interval of a load.
type Sample struct {
	At          time.Duration `json:"at_ns"` // of its end, since the start
	Published   int64         `json:"published"`
	Confirmed   int64         `json:"confirmed"`
	Received    int64         `json:"received"`
	Blocked     bool          `json:"blocked,omitempty"`
	RSS         int64         `json:"rss_bytes,omitempty"`
	PublishRate float64       `json:"-"` // per second; not confirmed ones
	ConfirmRate float64       `json:"-"`
	ReceiveRate float64       `json:"-"`
	Warmup      bool          `json:"warmup,omitempty"`
	Latency     *Latency      `json:"-"` // to delivery, or to confirm without consumers
}

// Messages is what processor time is divided by: what came out, or what went in
// if nobody consumes.
func (r *Report) Messages() int64 {
	if r.Operations > 0 {
		return r.Operations
	}
	if r.Received > 0 {
		return r.Received
	}
	return max(r.Confirmed, r.Published)
}

// finish computes what follows from the counts.
func (r *Report) finish(confirms bool) {
	in := r.Published
	if confirms {
		in = r.Confirmed
	}
	if r.Seconds > 0 {
		r.PublishRate = float64(in) / r.Seconds
		r.ReceiveRate = float64(r.Received) / r.Seconds
		r.OperationRate = float64(r.Operations) / r.Seconds
	}
	if n := r.Messages(); n > 0 {
		r.ClientCPUPerMillion = r.ClientCPU * 1e6 / float64(n)
		if r.Broker != nil {
			r.Broker.CPUPerMillion = r.Broker.CPUSeconds * 1e6 / float64(n)
		}
	}
}
