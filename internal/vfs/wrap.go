package vfs

import "io"

// around runs one operation of a wrapped file system. It may call run once or not at all, and
// before that lower op.Bytes of a write or zero-fill. on is the open file, nil for operations on
// names. The error that it returns is the operation's.
type around func(op *Op, on File, run func() error) error

// wrapped is an FS whose every operation, also on its files, goes through around.
type wrapped struct {
	inner  FS
	around around
}

func (w *wrapped) open(kind OpKind, name string, open func(string) (File, error)) (File, error) {
	var file File
	err := w.around(&Op{Kind: kind, Name: name}, nil, func() (err error) {
		file, err = open(name)
		return err
	})
	if err != nil {
		if file != nil {
			_ = file.Close() // opened, but the wrapper wants it to have failed
		}
		return nil, err
	}
	return &wrappedFile{inner: file, name: name, around: w.around}, nil
}

// Create implements FS.
func (w *wrapped) Create(name string) (File, error) { return w.open(OpCreate, name, w.inner.Create) }

// Open implements FS.
func (w *wrapped) Open(name string) (File, error) { return w.open(OpOpen, name, w.inner.Open) }

// OpenRead implements FS.
func (w *wrapped) OpenRead(name string) (File, error) {
	return w.open(OpOpenRead, name, w.inner.OpenRead)
}

// Remove implements FS.
func (w *wrapped) Remove(name string) error {
	return w.around(&Op{Kind: OpRemove, Name: name}, nil, func() error { return w.inner.Remove(name) })
}

// Rename implements FS.
func (w *wrapped) Rename(oldName, newName string) error {
	return w.around(&Op{Kind: OpRename, Name: oldName, NewName: newName}, nil,
		func() error { return w.inner.Rename(oldName, newName) })
}

// MkdirAll implements FS.
func (w *wrapped) MkdirAll(dir string) error {
	return w.around(&Op{Kind: OpMkdirAll, Name: dir}, nil, func() error { return w.inner.MkdirAll(dir) })
}

// List implements FS.
func (w *wrapped) List(dir string) (names []string, err error) {
	err = w.around(&Op{Kind: OpList, Name: dir}, nil, func() (err error) {
		names, err = w.inner.List(dir)
		return err
	})
	return names, err
}

// Stat implements FS.
func (w *wrapped) Stat(name string) (sizeBytes int64, err error) {
	err = w.around(&Op{Kind: OpStat, Name: name}, nil, func() (err error) {
		sizeBytes, err = w.inner.Stat(name)
		return err
	})
	return sizeBytes, err
}

// SyncDir implements FS.
func (w *wrapped) SyncDir(dir string) error {
	return w.around(&Op{Kind: OpSyncDir, Name: dir}, nil, func() error { return w.inner.SyncDir(dir) })
}

// Lock implements FS.
func (w *wrapped) Lock(name string) (lock io.Closer, err error) {
	err = w.around(&Op{Kind: OpLock, Name: name}, nil, func() (err error) {
		lock, err = w.inner.Lock(name)
		return err
	})
	return lock, err
}

// Free implements FS.
func (w *wrapped) Free(dir string) (freeBytes uint64, err error) {
	err = w.around(&Op{Kind: OpFree, Name: dir}, nil, func() (err error) {
		freeBytes, err = w.inner.Free(dir)
		return err
	})
	return freeBytes, err
}

type wrappedFile struct {
	inner  File
	name   string
	around around
}

// ReadAt implements io.ReaderAt.
func (f *wrappedFile) ReadAt(p []byte, offset int64) (n int, err error) {
	op := &Op{Kind: OpRead, Name: f.name, Offset: offset, Bytes: int64(len(p))}
	err = f.around(op, f.inner, func() (err error) {
		n, err = f.inner.ReadAt(p, offset)
		return err
	})
	return n, err
}

// WriteAt implements io.WriterAt.
func (f *wrappedFile) WriteAt(p []byte, offset int64) (n int, err error) {
	op := &Op{Kind: OpWrite, Name: f.name, Offset: offset, Bytes: int64(len(p))}
	err = f.around(op, f.inner, func() (err error) {
		n, err = f.inner.WriteAt(p[:op.Bytes], offset)
		return err
	})
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

// Truncate implements File.
func (f *wrappedFile) Truncate(sizeBytes int64) error {
	op := &Op{Kind: OpTruncate, Name: f.name, Bytes: sizeBytes}
	return f.around(op, f.inner, func() error { return f.inner.Truncate(sizeBytes) })
}

// ZeroFill implements File.
func (f *wrappedFile) ZeroFill(sizeBytes int64) error {
	op := &Op{Kind: OpZeroFill, Name: f.name, Bytes: sizeBytes}
	return f.around(op, f.inner, func() error { return f.inner.ZeroFill(op.Bytes) })
}

// Sync implements File.
func (f *wrappedFile) Sync() error {
	return f.around(&Op{Kind: OpSync, Name: f.name}, f.inner, f.inner.Sync)
}

// Datasync implements File.
func (f *wrappedFile) Datasync() error {
	return f.around(&Op{Kind: OpDatasync, Name: f.name}, f.inner, f.inner.Datasync)
}

// Direct implements File. It is no operation of its own: it cannot fail.
func (f *wrappedFile) Direct(on bool) { f.inner.Direct(on) }

// Size implements File.
func (f *wrappedFile) Size() (sizeBytes int64, err error) {
	err = f.around(&Op{Kind: OpSize, Name: f.name}, f.inner, func() (err error) {
		sizeBytes, err = f.inner.Size()
		return err
	})
	return sizeBytes, err
}

// Close implements io.Closer.
func (f *wrappedFile) Close() error {
	return f.around(&Op{Kind: OpClose, Name: f.name}, f.inner, f.inner.Close)
}

// unsyncedLoser is a file that can do what Linux does after a failed sync: go on showing the
// unsynced bytes, and never write them.
type unsyncedLoser interface{ loseUnsynced() }

// loseUnsynced implements unsyncedLoser as far as the wrapped file does.
func (f *wrappedFile) loseUnsynced() {
	if loser, ok := f.inner.(unsyncedLoser); ok {
		loser.loseUnsynced()
	}
}
