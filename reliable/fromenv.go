package reliable

import "os"

// FromEnv is the transport that the environment names: if AMQP_URL is set to one
// or several URLs, separated by commas, the broker or cluster there; if it is
// unset or empty, fallback, for example broker.Embedded(dir).
//
// A broker that is named and cannot be reached is an error of Open, and never a
// reason for the fallback: a program must not work into a broker of its own while
// everybody else waits at the real one.
func FromEnv(fallback Dialer) Transport {
	if list := os.Getenv("AMQP_URL"); list != "" {
		return ToURL(list)
	}
	return Via(fallback)
}
