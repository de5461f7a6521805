package loadgen

// worker is a publisher or a consumer as a loop sees it.
type worker interface {
	client() *Client
	begin()
	// arrived takes in what costs others time if it waits for a turn: there may be
	// something to read.
	arrived() error
	// turn does a bounded part of what can be done without waiting. until is when
	// there is more to do: 0 is at once, never with what comes. errAgain is never.
	turn() (until int64, err error)
}

// burst is how many writes a publisher may do in one turn, and after how many a
// loop looks for what has come. It bounds by how much a confirm seems to be late.
const burst = 16

func (p *publisher) client() *Client { return p.c }

// arrived counts the confirms that are there. Those of all connections come before
// the next publish of any, so that writing adds nothing to their latency.
func (p *publisher) arrived() error { return p.read() }

func (p *publisher) turn() (until int64, err error) {
	for range burst {
		frames, until := p.step()
		if frames == nil {
			return until, nil
		}
		if err := p.c.Write(frames); err != nil {
			p.c.cut.Store(true)
			return 0, err
		}
		if p.c.stuck() {
			return never, nil
		}
	}
	return 0, nil
}

func (k *consumer) client() *Client { return k.c }

// arrived leaves everything to turn.
func (k *consumer) arrived() error { return nil }

func (k *consumer) turn() (until int64, err error) { return k.step() }
