// Package tidy holds the project's own rules as tests: it has no code for others to call.
//
// Each rule is a function from the parsed source tree to a list of findings, so that it can be shown,
// in this package's tests, to catch what it is meant to catch. "go test ./internal/tidy" runs all of
// them over the whole repository, without the go command, in well under a second:
//
//   - imports follow lattice.txt; what is not listed there is forbidden
//   - a package has one doc comment and a name that says what it is for
//   - files and functions stay short
//   - internal/core is deterministic: no clock, randomness, files, network, goroutines, channels, locks
//   - no package holds mutable state in package-level variables
//   - the process (exit, environment, flags, signals) belongs to cmd and internal/cli
//   - tests do not sleep, and no marker of unfinished work is left in a comment
//
// What breaks a rule today and cannot be mended today is listed in exceptions.txt. That list only
// shrinks: an entry that is no longer needed, or allows more than is needed, fails the test too.
package tidy
