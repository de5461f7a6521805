// Package deduptest is the test that every store of package dedup passes, also for stores of your own.
//
// [Run] compares the store with dedup.Record step by step on random histories, drives it from many goroutines
// at once, and looks at what is left after a crash. It runs in the goroutine of the test that calls it.
package deduptest
