package vfs

import "slices"

// node is a file or directory of a MemFS, twice over: as running programs see it, and as it would
// be found after a power loss that lost everything unsynced. Guarded by MemFS.mu.
type node struct {
	id uint64 // in order of creation; gives crash clones a fixed order to draw chances in

	// A directory: name to node. nil in a file.
	names        map[string]*node
	durableNames map[string]*node

	// A file.
	live    content
	durable content
	// unsynced are the changes since the last sync, oldest first. Entries are never changed once
	// appended, and the slice is replaced rather than emptied, so clones can share it.
	unsynced []change
	// lostChanges says that a failed sync threw changes away: live shows bytes that no later sync
	// makes durable, as the page cache of Linux does.
	lostChanges bool
}

// change is a write or, with data nil, a new size.
type change struct {
	sequence  uint64 // over all changes of the file system, names included
	offset    int64
	data      []byte
	sizeBytes int64
}

// nameChange sets names in directories, all of them or none: Rename is one nameChange.
type nameChange struct {
	sequence uint64
	settings []nameSetting
}

type nameSetting struct {
	dir  *node
	name string
	to   *node // nil: the name is gone
}

func (n *node) isDir() bool { return n.names != nil }

func (n *node) apply(c change, to *content) {
	if c.data == nil {
		to.setSize(c.sizeBytes)
	} else {
		to.writeAt(c.data, c.offset)
	}
}

func (n *node) record(c change) {
	n.apply(c, &n.live)
	n.unsynced = append(n.unsynced, c)
}

// sync makes the unsynced changes durable.
func (n *node) sync() {
	if n.lostChanges {
		for _, c := range n.unsynced {
			n.apply(c, &n.durable)
		}
	} else if len(n.unsynced) > 0 {
		n.durable = n.live.snapshot()
	}
	n.unsynced = nil
}

// loseUnsynced is what Linux does when a sync fails: the pages stay readable, are marked clean,
// and never reach the disk.
func (n *node) loseUnsynced() {
	n.lostChanges = n.lostChanges || len(n.unsynced) > 0
	n.unsynced = nil
}

// copyFile gives a file with the same content, the same durable content and the same changes
// between them.
func (n *node) copyFile() *node {
	return &node{
		id: n.id, live: n.live.snapshot(), durable: n.durable.snapshot(),
		unsynced: slices.Clip(n.unsynced), lostChanges: n.lostChanges,
	}
}
