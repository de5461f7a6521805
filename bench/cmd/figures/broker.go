package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"

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

// residentBytes is the broker's memory, 0 where there is no /proc.
func (p *process) residentBytes() int64 {
	n, _ := loadgen.ResidentBytes(p.cmd.Process.Pid)
	return n
}
