package bench

import "context"

// contextDone is a context that has ended: shutting down with it cuts clients
// off at once.
func contextDone() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx, cancel
}
