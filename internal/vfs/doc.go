// Package vfs is the seam between the storage engine and the file system: the few operations a
// log-structured store needs, with what each of them promises about durability written down.
//
// Implementations and wrappers:
//   - [OS]: the real file system (Linux, macOS, FreeBSD, Windows).
//   - [MemFS]: memory, strict about durability; [MemFS.CrashClone] gives the state after a power
//     loss at this instant, [MemFS.Clone] the state after the process was killed.
//   - [Fault]: wraps any FS; fails, shortens or delays chosen operations; fills up the disk.
//   - [Trace]: wraps any FS; writes down every operation as a line of text for golden files.
//
// vfstest holds the conformance suite that all of them pass.
//
// Invariants every implementation keeps, and every caller may rely on:
//   - Written bytes are visible to readers of the same FS at once, and survive the death of the
//     process. They survive power loss only after Sync or Datasync of that file returned nil.
//   - A name made, moved or taken away by Create, Rename, Remove or MkdirAll survives power loss
//     only after SyncDir of the directory that holds the name returned nil. Syncing the file is
//     not enough, nor is syncing the directory enough for the file's bytes.
//   - Rename replaces an existing file atomically, before and after a power loss.
//   - After an error from Sync or Datasync the unsynced bytes may be gone for good even though
//     reads still show them, and a second Sync may report success all the same. Never retry one.
//   - A missing file or directory is fs.ErrNotExist, a closed file os.ErrClosed, a held lock
//     [ErrLocked] (all by errors.Is), a full disk is recognised by [IsNoSpace].
//
// Portable callers close a file before they rename or remove it: Windows refuses otherwise.
// Reading, writing, syncing and all FS methods may be called from any goroutine; Close must not
// run at the same time as another call on the same File.
package vfs
