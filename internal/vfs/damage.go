package vfs

import (
	"errors"
	"fmt"
)

// FlipBit inverts one bit of a file, durably: bit rot for tests. bit counts from 0, the lowest of
// the first byte.
func FlipBit(fsys FS, name string, bit int64) error {
	return damage(fsys, name, func(file File) error {
		var b [1]byte
		if _, err := file.ReadAt(b[:], bit/8); err != nil {
			return err
		}
		b[0] ^= 1 << (bit % 8)
		_, err := file.WriteAt(b[:], bit/8)
		return err
	})
}

// Overwrite puts other bytes into a file, durably.
func Overwrite(fsys FS, name string, offset int64, data []byte) error {
	return damage(fsys, name, func(file File) error {
		_, err := file.WriteAt(data, offset)
		return err
	})
}

// CutTo cuts a file short, durably. It does not make one longer.
func CutTo(fsys FS, name string, sizeBytes int64) error {
	return damage(fsys, name, func(file File) error {
		before, err := file.Size()
		if err != nil || before <= sizeBytes {
			return err
		}
		return file.Truncate(sizeBytes)
	})
}

func damage(fsys FS, name string, change func(File) error) error {
	file, err := fsys.Open(name)
	if err != nil {
		return err
	}
	err = change(file)
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("damage %s: %w", name, err)
	}
	return nil
}
