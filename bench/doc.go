// Package bench holds benchmarks of the broker in one process with the load, for
// benchstat, and the test that counts allocations per message. Recorded results
// of whole brokers are in results/, and README.md has their table.
//
//	go test -run '^$' -bench . ./bench
package bench
