package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/warrenmq/warren/internal/loadgen"
)

// process is a warren serve.
type process struct {
	cmd  *exec.Cmd
	addr string
}

var startLine = regexp.MustCompile(` listening on (\S+) `)

// start runs a broker with default settings over a data directory, and waits
// until it serves.
func (r *run) start(data string) (*process, error) {
	cmd := exec.Command(r.binary, "serve", "--listen", "127.0.0.1:0", "--log-level", "warn", "--data", filepath.Join(r.dir, data))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	m := startLine.FindStringSubmatch(line)
	if m == nil {
		cmd.Process.Kill()
		cmd.Wait() // it has said on stderr what is wrong
		return nil, fmt.Errorf("the broker said %q", line)
	}
	return &process{cmd, m[1]}, nil
}

// kill ends the broker by SIGKILL.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait() // the status says that it was killed
}

// dial opens a connection with channels 1 to channels.
func (p *process) dial(channels uint16) (*loadgen.Client, error) {
	nc, err := net.Dial("tcp", p.addr)
	if err != nil {
		return nil, err
	}
	c, err := loadgen.Connect(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, c.OpenChannels(channels)
}

// residentBytes is the broker's VmRSS (proc(5)), 0 where there is no /proc.
func (p *process) residentBytes() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kb, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, _ := strconv.ParseInt(kb, 10, 64) // 0 if it looks different
	return n << 10
}
