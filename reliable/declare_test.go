package reliable

import (
	"fmt"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// An internal error of a server that comes back after a crash is no refusal; one that
// goes on is, and so is any other answer.
func TestServerRecovers(t *testing.T) {
	answer := func(code int) error { return fmt.Errorf("declare: %w", &amqp.Error{Code: code, Server: true}) }
	now, long := time.Now(), time.Now().Add(-serverRecovery)
	for _, c := range []struct {
		err      error
		begun    time.Time
		recovers bool
	}{
		{answer(amqp.InternalError), now, true},
		{answer(amqp.InternalError), long, false},
		{answer(amqp.PreconditionFailed), now, false},
		{answer(amqp.NotFound), now, false},
	} {
		if got := serverRecovers(c.err, c.begun); got != c.recovers {
			t.Errorf("%v, begun %v ago: %v", c.err, time.Since(c.begun).Round(time.Second), got)
		}
		if !serverRefused(c.err) {
			t.Errorf("%v is an answer of the server", c.err)
		}
	}
}
