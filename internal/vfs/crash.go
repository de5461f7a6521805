package vfs

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
)

// CrashMode says what a power loss does to changes that were not synced.
type CrashMode int

// What is synced is kept in every mode. In every mode but KeepAll each rename is kept or lost as a
// whole, but independently of the content of the file.
const (
	// KeepNone loses every unsynced change: exactly the synced state. Draws no chance.
	KeepNone CrashMode = iota
	// KeepAll keeps every unsynced change. Draws no chance.
	KeepAll
	// KeepBlocks decides for each block of each unsynced write (512 B or 4 KiB, by file), for
	// each change of a size and for each change of a name: reordered and torn writes.
	KeepBlocks
	// KeepPrefix keeps the changes of the whole file system up to some moment, and of a write
	// that was under way then a prefix in multiples of 512 B.
	KeepPrefix
	// KeepMixed draws one of the others for every file, and for the names.
	KeepMixed
)

// CrashModes lists all modes, for tests that go through them.
func CrashModes() []CrashMode {
	return []CrashMode{KeepNone, KeepAll, KeepBlocks, KeepPrefix, KeepMixed}
}

func (m CrashMode) String() string {
	return [...]string{"none", "all", "blocks", "prefix", "mixed"}[m]
}

// CrashClone returns what a machine finds after losing power at this instant. The receiver stays
// as it is and may be in use meanwhile; all that the clone holds is durable there. The same
// state, mode and sequence of chances give the same clone. rng may be nil for KeepNone and KeepAll.
func (m *MemFS) CrashClone(mode CrashMode, rng *rand.Rand) *MemFS {
	image := m.Clone() // an instant; from here on nobody else sees what is changed
	if mode == KeepPrefix {
		image.losePastCut(rng)
		mode = KeepAll
	}
	for _, c := range keptNames(image.unsyncedNames, drawMode(mode, rng), rng) {
		for _, s := range c.settings {
			setName(s.dir.durableNames, s.name, s.to)
		}
	}
	for _, n := range image.nodes() {
		if n.isDir() {
			n.names = maps.Clone(n.durableNames)
			continue
		}
		keepContent(n, drawMode(mode, rng), rng)
		n.live, n.unsynced, n.lostChanges = n.durable.snapshot(), nil, false
	}
	image.unsyncedNames = nil
	return image
}

// Clone returns what a new process finds after the old one was killed at this instant: all that
// was written, of which the unsynced part can still be lost to a later CrashClone. Locks are free.
// It copies tables, not bytes.
func (m *MemFS) Clone() *MemFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	copies := map[*node]*node{}
	clone := &MemFS{
		lastID: m.lastID, lastSequence: m.lastSequence,
		root: copyTree(m.root, copies), locked: map[*node]bool{},
	}
	for _, c := range m.unsyncedNames {
		settings := make([]nameSetting, len(c.settings))
		for i, s := range c.settings {
			settings[i] = nameSetting{copyTree(s.dir, copies), s.name, copyTree(s.to, copies)}
		}
		clone.unsyncedNames = append(clone.unsyncedNames, nameChange{c.sequence, settings})
	}
	return clone
}

func copyTree(n *node, copies map[*node]*node) *node {
	if n == nil || copies[n] != nil {
		return copies[n]
	}
	if !n.isDir() {
		copies[n] = n.copyFile()
		return copies[n]
	}
	dir := &node{id: n.id, names: make(map[string]*node, len(n.names)), durableNames: make(map[string]*node, len(n.durableNames))}
	copies[n] = dir
	for name, child := range n.names {
		dir.names[name] = copyTree(child, copies)
	}
	for name, child := range n.durableNames {
		dir.durableNames[name] = copyTree(child, copies)
	}
	return dir
}

// nodes gives all nodes that some name leads to, today or durably or in between, by age.
func (m *MemFS) nodes() []*node {
	seen := map[*node]bool{}
	var visit func(n *node)
	visit = func(n *node) {
		if n == nil || seen[n] {
			return
		}
		seen[n] = true
		for _, child := range n.names {
			visit(child)
		}
		for _, child := range n.durableNames {
			visit(child)
		}
	}
	visit(m.root)
	for _, c := range m.unsyncedNames {
		for _, s := range c.settings {
			visit(s.dir)
			visit(s.to)
		}
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b *node) int { return cmp.Compare(a.id, b.id) })
}

// losePastCut forgets the unsynced changes after a moment drawn among them.
func (m *MemFS) losePastCut(rng *rand.Rand) {
	nodes := m.nodes()
	var sequences []uint64
	for _, c := range m.unsyncedNames {
		sequences = append(sequences, c.sequence)
	}
	for _, n := range nodes {
		for _, c := range n.unsynced {
			sequences = append(sequences, c.sequence)
		}
	}
	slices.Sort(sequences)
	kept := rng.IntN(len(sequences) + 1)
	if kept == len(sequences) {
		return
	}
	cut := sequences[kept] // the first change that is not complete
	m.unsyncedNames = slices.DeleteFunc(m.unsyncedNames, func(c nameChange) bool { return c.sequence >= cut })
	for _, n := range nodes {
		n.unsynced = prefixUntil(n.unsynced, cut, rng)
	}
}

// prefixUntil gives the changes before cut and, if the one at cut is a write, a part of it.
func prefixUntil(changes []change, cut uint64, rng *rand.Rand) []change {
	n, _ := slices.BinarySearchFunc(changes, cut, func(c change, cut uint64) int { return cmp.Compare(c.sequence, cut) })
	kept := slices.Clone(changes[:n])
	if n < len(changes) && changes[n].sequence == cut && changes[n].data != nil {
		torn := changes[n]
		end := sectorEnd(torn.offset, torn.offset+int64(len(torn.data)), rng)
		if torn.data = torn.data[:end-torn.offset]; len(torn.data) > 0 {
			kept = append(kept, torn)
		}
	}
	return kept
}

// sectorEnd draws where a write of [from, to) ended early: at from, at a multiple of 512 or at to.
func sectorEnd(from, to int64, rng *rand.Rand) int64 {
	const sectorBytes = 512
	first := from / sectorBytes
	sectors := (to+sectorBytes-1)/sectorBytes - first
	return min(to, max(from, (first+rng.Int64N(sectors+1))*sectorBytes))
}

// drawMode resolves KeepMixed to one of the modes that need no view of the whole file system.
// KeepPrefix is then that of a single file.
func drawMode(mode CrashMode, rng *rand.Rand) CrashMode {
	if mode == KeepMixed {
		return CrashMode(rng.IntN(int(KeepMixed)))
	}
	return mode
}

// keptNames chooses among changes of names.
func keptNames(changes []nameChange, mode CrashMode, rng *rand.Rand) []nameChange {
	switch mode {
	case KeepNone:
		return nil
	case KeepPrefix:
		return changes[:rng.IntN(len(changes)+1)]
	case KeepBlocks:
		var kept []nameChange
		for _, c := range changes {
			if rng.IntN(2) == 0 {
				kept = append(kept, c)
			}
		}
		return kept
	default:
		return changes
	}
}

// keepContent brings what survives of a file's unsynced changes into its durable content.
func keepContent(n *node, mode CrashMode, rng *rand.Rand) {
	if mode == KeepNone || len(n.unsynced) == 0 {
		return
	}
	if mode == KeepBlocks {
		keepBlocks(n, rng)
		return
	}
	kept := n.unsynced
	if mode == KeepPrefix {
		if at := rng.IntN(len(kept) + 1); at < len(kept) {
			kept = prefixUntil(kept, kept[at].sequence, rng)
		}
	}
	for _, c := range kept {
		n.apply(c, &n.durable)
	}
}

// keepBlocks draws for each block of each change whether it reached the disk.
func keepBlocks(n *node, rng *rand.Rand) {
	grainBytes := []int64{512, blockBytes}[rng.IntN(2)]
	keepOf8 := []int{1, 4, 7}[rng.IntN(3)] // mostly lost, half, mostly kept
	for _, c := range n.unsynced {
		if c.data == nil {
			if rng.IntN(8) < keepOf8 {
				n.apply(c, &n.durable)
			}
			continue
		}
		end := c.offset + int64(len(c.data))
		if end > n.durable.sizeBytes {
			end = keepGrowth(&n.durable, c.offset, end, rng)
		}
		for at := c.offset; at < end; {
			next := min(end, (at/grainBytes+1)*grainBytes)
			if rng.IntN(8) < keepOf8 {
				n.durable.writeAt(c.data[at-c.offset:next-c.offset], at)
			}
			at = next
		}
	}
}

// keepGrowth draws the size after a write of [from, to) that made the file longer: the old one, the
// new one or one between. Blocks below the size that do not arrive read as zeros. It returns the
// end of what can have arrived of the write.
func keepGrowth(c *content, from, to int64, rng *rand.Rand) int64 {
	switch rng.IntN(3) {
	case 0:
		return min(to, c.sizeBytes)
	case 1:
		to = max(min(to, c.sizeBytes), sectorEnd(from, to, rng))
	}
	c.setSize(max(c.sizeBytes, to))
	return to
}
