// Package bench holds benchmarks of the broker in one process with the load, for
// benchstat, one for each row of the matrix; what the load takes by itself; and the
// tests that count allocations and system calls per message. Recorded results of whole
// brokers are in results/, and README.md has their table.
//
//	go test -run '^$' -bench Row/batched -benchtime 300000x ./bench
package bench
