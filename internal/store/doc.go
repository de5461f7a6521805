// Package store keeps messages, and the log position that confirms wait for.
//
// In memory, Arena holds messages in counted chunks, and MemoryLog gives out
// positions that are durable at once. With scratch files (Arena.SpillTo) chunks
// beyond a budget are on the disk until somebody reads there. With a data directory, Disk writes records
// to a seglog.Log: publishes, what happened to them, and definitions of queues,
// exchanges and bindings; a checkpoint holds the queues' indexes, so that a start
// reads only the end of the log. The formats are in docs/format/store.md. A Ref
// names a message in either; the log's blocks in memory are the cache of bodies.
//
// Arena, MemoryLog and Disk are safe for concurrent use. But for Load, Relieve,
// the waits, checkpoints, Drop and Close nothing blocks on the disk, so the rest may
// be called under a queue lock.
//
// Inspection reads a directory without changing it, whatever state it is in; it is
// what warren check, dump and salvage stand on, and belongs to one goroutine.
package store
