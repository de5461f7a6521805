// Package claims has the tests of what package reliable promises, in real time,
// while connections are cut and the broker is killed and comes back. They hold at
// the embedded broker, at warren serve and at RabbitMQ; those of package reliable
// itself are about the embedded broker only, on a clock that the test moves.
//
// Where and how they run is said by:
//
//	WARREN_CLAIMS_URL     the broker, or the nodes of a cluster separated by commas;
//	                      "embedded" is one in the test, whose crash is a power loss;
//	                      without it the tests are skipped
//	WARREN_CLAIMS_PEER    the script of test/peers that kills and restarts what listens
//	                      on the URL's port; without it nothing is killed
//	WARREN_CLAIMS_SIZE    messages of the large tests (300)
//	WARREN_CLAIMS_ONCE    messages of the test of exact effects (the size)
//
// For example:
//
//	export WARREN_CLAIMS_PEER=$PWD/test/peers/rabbitmq-forky.sh
//	export WARREN_CLAIMS_URL=$($WARREN_CLAIMS_PEER start 11000)
//	WARREN_CLAIMS_SIZE=100000 go test ./test/claims -run TestClaims -v
//	$WARREN_CLAIMS_PEER stop 11000
//
// At the end stands a table of what was measured. A bound on time is one of a quiet
// machine: only ten times as long is a failure.
//
// A test's own goroutine drives; the crashes come from a goroutine of their own.
package claims
