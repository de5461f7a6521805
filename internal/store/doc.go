// Package store keeps message bodies and the log position that confirms wait
// for. For now it is memory only: Arena holds bodies in counted chunks, and
// MemoryLog gives out positions that are durable at once.
//
// Every method is safe for concurrent use. Nothing here blocks on a disk or
// waits for another goroutine, so it may be called under a queue lock.
package store
