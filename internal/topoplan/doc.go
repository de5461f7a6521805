// Package topoplan plans, explains and checks the exchanges, queues and bindings
// of the delivery toolkit: what warren topology plan, apply and verify do.
//
// Every declaration comes from package reliable, from the functions that its
// clients declare with. This package adds nothing to them: it describes them
// (Text, Definitions), works out through which of them a retried message goes
// (Step), and compares them with a broker, over AMQP (Survey) or with what a
// management API lists (Compare).
//
// Nothing here has state between calls. Survey is called by one goroutine per
// connection; the rest is pure.
package topoplan
