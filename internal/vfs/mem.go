package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// memFreeBytes is what MemFS.Free answers; a test that wants a small disk wraps it in a Fault.
const memFreeBytes = 1 << 40

// MemFS is a file system in memory, with the root directory "/" to begin with; relative names are
// taken from there. It is as strict about durability as POSIX allows: the content of a file is
// durable after Sync or Datasync of the file, a name after SyncDir of its directory, and nothing
// earlier. Unwritten blocks cost no memory; changes that are not synced are held twice.
type MemFS struct {
	mu           sync.RWMutex
	root         *node
	lastID       uint64
	lastSequence uint64
	// unsyncedNames are the changes of names since their directories were synced, oldest first.
	unsyncedNames []nameChange
	locked        map[*node]bool
}

// NewMem returns an empty file system.
func NewMem() *MemFS {
	m := &MemFS{locked: map[*node]bool{}}
	m.root = m.newDir()
	return m
}

func (m *MemFS) newDir() *node {
	m.lastID++
	return &node{id: m.lastID, names: map[string]*node{}, durableNames: map[string]*node{}}
}

func (m *MemFS) nextSequence() uint64 {
	m.lastSequence++
	return m.lastSequence
}

// Create implements FS.
func (m *MemFS) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	file, err := m.fileOrNew("create", name)
	if err != nil {
		return nil, err
	}
	if file.live.sizeBytes > 0 {
		file.record(change{sequence: m.nextSequence()})
	}
	return &memFile{fs: m, node: file, name: name, writable: true}, nil
}

// Open implements FS.
func (m *MemFS) Open(name string) (File, error) { return m.open(name, true) }

// OpenRead implements FS.
func (m *MemFS) OpenRead(name string) (File, error) { return m.open(name, false) }

func (m *MemFS) open(name string, writable bool) (File, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	found, err := m.find(name)
	if err == nil && found.isDir() {
		err = syscall.EISDIR
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return &memFile{fs: m, node: found, name: name, writable: writable}, nil
}

// Remove implements FS.
func (m *MemFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parent(name)
	if err != nil {
		return pathError("remove", name, err)
	}
	switch found := dir.names[base]; {
	case found == nil:
		return pathError("remove", name, fs.ErrNotExist)
	case len(found.names) > 0:
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	m.setNames(nameSetting{dir, base, nil})
	return nil
}

// Rename implements FS. A directory can take a new name that is free.
func (m *MemFS) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	fromDir, fromBase, err := m.parent(oldName)
	if err != nil {
		return pathError("rename", oldName, err)
	}
	toDir, toBase, err := m.parent(newName)
	if err != nil {
		return pathError("rename", newName, err)
	}
	moved, replaced := fromDir.names[fromBase], toDir.names[toBase]
	switch {
	case moved == nil:
		return pathError("rename", oldName, fs.ErrNotExist)
	case moved == replaced:
		return nil
	case moved.isDir() && strings.HasPrefix(cleanName(newName), cleanName(oldName)+"/"):
		return pathError("rename", newName, syscall.EINVAL)
	case replaced != nil && (replaced.isDir() || moved.isDir()):
		return pathError("rename", newName, fs.ErrExist)
	}
	m.setNames(nameSetting{fromDir, fromBase, nil}, nameSetting{toDir, toBase, moved})
	return nil
}

// MkdirAll implements FS.
func (m *MemFS) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.root
	for _, part := range nameParts(dir) {
		next := at.names[part]
		if next == nil {
			next = m.newDir()
			m.setNames(nameSetting{at, part, next})
		}
		if !next.isDir() {
			return pathError("mkdir", dir, syscall.ENOTDIR)
		}
		at = next
	}
	return nil
}

// List implements FS.
func (m *MemFS) List(dir string) ([]string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	found, err := m.findDir(dir)
	if err != nil {
		return nil, pathError("list", dir, err)
	}
	return slices.Sorted(maps.Keys(found.names)), nil
}

// Stat implements FS.
func (m *MemFS) Stat(name string) (int64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	found, err := m.find(name)
	if err != nil {
		return 0, pathError("stat", name, err)
	}
	return found.live.sizeBytes, nil
}

// SyncDir implements FS. A rename between two directories is synced with either of them, and
// takes along what happened before it in the other one, since it could not be true without.
func (m *MemFS) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	found, err := m.findDir(dir)
	if err != nil {
		return pathError("sync", dir, err)
	}
	dirs := map[*node]bool{found: true}
	synced := make([]bool, len(m.unsyncedNames))
	for i, c := range slices.Backward(m.unsyncedNames) {
		synced[i] = slices.ContainsFunc(c.settings, func(s nameSetting) bool { return dirs[s.dir] })
		for _, s := range c.settings {
			dirs[s.dir] = dirs[s.dir] || synced[i]
		}
	}
	var unsynced []nameChange
	for i, c := range m.unsyncedNames {
		if !synced[i] {
			unsynced = append(unsynced, c)
			continue
		}
		for _, s := range c.settings {
			setName(s.dir.durableNames, s.name, s.to)
		}
	}
	m.unsyncedNames = unsynced
	return nil
}

// Lock implements FS. Clones start without locks, since their processes are gone.
func (m *MemFS) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	file, err := m.fileOrNew("lock", name)
	if err != nil {
		return nil, err
	}
	if m.locked[file] {
		return nil, fmt.Errorf("lock %s: %w", name, ErrLocked)
	}
	m.locked[file] = true
	return &memLock{fs: m, node: file}, nil
}

// Free implements FS: there is always one TiB.
func (m *MemFS) Free(dir string) (uint64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if _, err := m.findDir(dir); err != nil {
		return 0, pathError("free space of", dir, err)
	}
	return memFreeBytes, nil
}

// fileOrNew finds a file or makes an empty one.
func (m *MemFS) fileOrNew(op, name string) (*node, error) {
	dir, base, err := m.parent(name)
	if err != nil {
		return nil, pathError(op, name, err)
	}
	file := dir.names[base]
	if file == nil {
		m.lastID++
		file = &node{id: m.lastID}
		m.setNames(nameSetting{dir, base, file})
	}
	if file.isDir() {
		return nil, pathError(op, name, syscall.EISDIR)
	}
	return file, nil
}

func (m *MemFS) setNames(settings ...nameSetting) {
	for _, s := range settings {
		setName(s.dir.names, s.name, s.to)
	}
	m.unsyncedNames = append(m.unsyncedNames, nameChange{m.nextSequence(), settings})
}

func setName(names map[string]*node, name string, to *node) {
	if to == nil {
		delete(names, name)
	} else {
		names[name] = to
	}
}

func (m *MemFS) find(name string) (*node, error) {
	at := m.root
	for _, part := range nameParts(name) {
		if !at.isDir() {
			return nil, syscall.ENOTDIR
		}
		if at = at.names[part]; at == nil {
			return nil, fs.ErrNotExist
		}
	}
	return at, nil
}

func (m *MemFS) findDir(name string) (*node, error) {
	found, err := m.find(name)
	if err == nil && !found.isDir() {
		err = syscall.ENOTDIR
	}
	return found, err
}

// parent gives the directory that holds name, which need not exist in it, and the name in there.
func (m *MemFS) parent(name string) (*node, string, error) {
	dir, base := path.Split(cleanName(name))
	if base == "" {
		return nil, "", syscall.EBUSY // the root
	}
	found, err := m.findDir(dir)
	return found, base, err
}

func cleanName(name string) string { return path.Clean("/" + filepath.ToSlash(name)) }

func nameParts(name string) []string {
	return strings.FieldsFunc(cleanName(name), func(r rune) bool { return r == '/' })
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

type memLock struct {
	fs   *MemFS
	node *node
}

var errUnlocked = errors.New("the lock was released before")

func (l *memLock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	if l.node == nil {
		return errUnlocked
	}
	delete(l.fs.locked, l.node)
	l.node = nil
	return nil
}
