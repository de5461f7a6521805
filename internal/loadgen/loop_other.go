//go:build !linux

package loadgen

// loop is for Linux; elsewhere each connection has goroutines.
type loop struct{}

func newLoop(*runner, string, []worker) (*loop, error) { return nil, nil }

func (l *loop) run() {}

func (l *loop) release() {}

// stuck says whether something is still to be written.
func (c *Client) stuck() bool { return false }
