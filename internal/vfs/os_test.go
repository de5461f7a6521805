package vfs_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
)

// TestLockEndsWithTheProcess lets another process take a lock and kills it.
func TestLockEndsWithTheProcess(t *testing.T) {
	const variable = "WARREN_VFS_TEST_LOCK"
	if name := os.Getenv(variable); name != "" {
		holdLock(name)
		return
	}
	name := filepath.Join(t.TempDir(), "LOCK")
	holder := exec.Command(os.Args[0], "-test.run=^TestLockEndsWithTheProcess$")
	holder.Env = append(os.Environ(), variable+"="+name)
	stdin, err := holder.StdinPipe() // open as long as this process lives
	must(t, err)
	defer func() { _ = stdin.Close() }()
	stdout, err := holder.StdoutPipe()
	must(t, err)
	must(t, holder.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "held" {
		t.Errorf("the holder says %q, %v", line, err)
	} else if _, err := (vfs.OS{}).Lock(name); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("lock while another process holds it: %v", err)
	}
	must(t, holder.Process.Kill())
	_ = holder.Wait() // "killed" is what it must say
	lock, err := vfs.OS{}.Lock(name)
	must(t, err)
	must(t, lock.Close())
}

// holdLock is the other process: it holds the lock until it is killed or its parent is gone.
func holdLock(name string) {
	lock, err := vfs.OS{}.Lock(name)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = lock.Close() }()
	fmt.Println("held")
	_, _ = os.Stdin.Read(make([]byte, 1)) // ends with the parent's side of the pipe
}

func TestOSFilesArePrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such permissions on Windows")
	}
	dir := filepath.Join(t.TempDir(), "data")
	must(t, vfs.OS{}.MkdirAll(dir))
	must(t, create(vfs.OS{}, filepath.Join(dir, "f")))
	for name, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "f"): 0o600} {
		info, err := os.Stat(name)
		must(t, err)
		if got := info.Mode().Perm(); got&^want != 0 {
			t.Errorf("%s has mode %v, want at most %v", name, got, want)
		}
	}
}
