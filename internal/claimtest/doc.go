// Package claimtest has what the tests of package reliable's claims have in common,
// those at the embedded broker on a clock that the test moves, and those of
// test/claims in real time: a Saboteur that cuts connections, a Log of what handlers
// saw, and Scan.
//
// Any goroutine may use a Saboteur and a Log. Only tests use the package.
package claimtest
