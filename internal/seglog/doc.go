// Package seglog is a segmented log: records go in at the end, many at a time
// and from many goroutines, and one committer makes them durable in groups. It
// knows bytes only; what they mean is the caller's business.
//
// Invariants:
//   - A record is durable once the durable position (an LSN, the number of a
//     record) has passed it: an fsync that began after the record was written
//     has returned without error.
//   - A failed write or sync is final: it is never tried again, the durable
//     position does not move any more, and every later wait gets the error.
//   - A block of 4 KiB that has been synced is never written again.
//   - Reserve never blocks on the disk or on the committer, so it may be called
//     under a lock. Whoever appends much asks WaitRoom before taking locks.
//   - Recovery takes every record below the durable position that the disk
//     knows of, or says that the log is damaged; it never skips one silently.
//
// Files in the directory: log-<number>, spare-<number>, MANIFEST, RESERVE,
// LOCK. What stands in them is drawn in docs/format/log.md; the constants in
// format.go are part of that format.
package seglog
