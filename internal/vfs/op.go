package vfs

import (
	"fmt"
	"math/bits"
)

// OpKind is a kind of operation, or as a bit set several kinds.
type OpKind uint32

// The operations of FS and File.
const (
	OpCreate OpKind = 1 << iota
	OpOpen
	OpOpenRead
	OpRemove
	OpRename
	OpMkdirAll
	OpList
	OpStat
	OpSyncDir
	OpLock
	OpFree
	OpRead
	OpWrite
	OpTruncate
	OpZeroFill
	OpSync
	OpDatasync
	OpSize
	OpClose
	opEnd

	// OpsAll is every kind.
	OpsAll = opEnd - 1
	// OpsSync is what makes something durable.
	OpsSync = OpSyncDir | OpSync | OpDatasync
	// OpsChange is what changes the disk or makes something durable: where a crash or a disk
	// error makes a difference.
	OpsChange = OpCreate | OpRemove | OpRename | OpMkdirAll | OpWrite | OpTruncate | OpZeroFill | OpsSync
)

func (k OpKind) String() string {
	names := [...]string{
		"create", "open", "open-read", "remove", "rename", "mkdir", "list", "stat", "sync-dir", "lock", "free",
		"read", "write", "truncate", "zero-fill", "sync", "datasync", "size", "close",
	}
	if bits.OnesCount32(uint32(k)) != 1 || k >= opEnd {
		return fmt.Sprintf("operations %#x", uint32(k))
	}
	return names[bits.TrailingZeros32(uint32(k))]
}

// Op is one call of FS or File.
type Op struct {
	Kind OpKind
	// Name is the file or directory; for an open file, the name it was opened with.
	Name string
	// NewName is where a rename goes.
	NewName string
	// Offset is where a read or write begins.
	Offset int64
	// Bytes is the length of a read or write, and the size asked for by truncate or zero-fill.
	Bytes int64
}

// String gives the operation as one line, names as they are.
func (o Op) String() string {
	switch o.Kind {
	case OpRename:
		return fmt.Sprintf("%s %s %s", o.Kind, o.Name, o.NewName)
	case OpRead, OpWrite:
		return fmt.Sprintf("%s %s at %d, %d bytes", o.Kind, o.Name, o.Offset, o.Bytes)
	case OpTruncate, OpZeroFill:
		return fmt.Sprintf("%s %s to %d bytes", o.Kind, o.Name, o.Bytes)
	}
	return fmt.Sprintf("%s %s", o.Kind, o.Name)
}
