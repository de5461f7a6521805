package demo

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/warrenmq/warren/brokertest"
)

// env is an environment.
type env map[string]string

func (e env) get(key string) string { return e[key] }

// noEmbedded fails the test if the command asks for an embedded broker.
func noEmbedded(t *testing.T) Embedded {
	return func(context.Context, string) (EmbeddedBroker, error) {
		t.Error("the embedded broker was started")
		return EmbeddedBroker{}, errors.New("no embedded broker")
	}
}

func TestCommandNeverFallsBack(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "amqp://guest:guest@" + ln.Addr().String() + "/"
	_ = ln.Close()
	for _, tc := range []struct {
		name, env string
		args      []string
		want      string
	}{
		{"flag", "", []string{"--url", url}, "cannot connect to amqp://"},
		{"environment", url, nil, "cannot connect to amqp://"},
		{"flag over environment", "amqp://elsewhere.invalid/", []string{"--url", url}, ln.Addr().String()},
		{"empty flag", "", []string{"--url", ""}, "--url is empty"},
		{"data and url", "", []string{"--url", url, "--data", "x"}, "--data is for the broker inside this process"},
		{"empty data", url, []string{"--data", ""}, "--data is empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := Command(env{"AMQP_URL": tc.env}.get, noEmbedded(t))
			var out bytes.Buffer
			cmd.SetOut(&out)
			cmd.SetErr(&out)
			cmd.SilenceErrors = true
			cmd.SetArgs(append([]string{}, tc.args...))
			err := cmd.ExecuteContext(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			if out.Len() > 0 {
				t.Errorf("wrote %q", out.String())
			}
		})
	}
}

// TestCommandStartsAndStopsTheEmbeddedBroker runs the command without a URL.
func TestCommandStartsAndStopsTheEmbeddedBroker(t *testing.T) {
	refused := errors.New("refused on purpose")
	started, dialled, stopped := 0, 0, 0
	cmd := Command(env{}.get, func(context.Context, string) (EmbeddedBroker, error) {
		started++
		return EmbeddedBroker{Dial: func(string, string) (net.Conn, error) { dialled++; return nil, refused }, Stop: func() { stopped++ }}, nil
	})
	cmd.SilenceErrors = true
	cmd.SetArgs([]string{})
	if err := cmd.ExecuteContext(t.Context()); !errors.Is(err, refused) {
		t.Errorf("error %v, want %v", err, refused)
	}
	if started != 1 || dialled != 1 || stopped != 1 {
		t.Errorf("started %d, dialled %d, stopped %d times, want 1 each", started, dialled, stopped)
	}
}

// TestCommand is the whole of `warren demo --json` on an embedded broker.
func TestCommand(t *testing.T) {
	t.Parallel()
	b := brokertest.New(t)
	cmd := Command(env{"AMQP_URL": ""}.get, func(context.Context, string) (EmbeddedBroker, error) {
		return EmbeddedBroker{Dial: b.Dial, Stop: func() {}}, nil
	})
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--json"})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Error(err)
	}
	if text := out.String(); !strings.Contains(text, `"event":"summary","ok":true`) || !strings.Contains(text, "broker inside this process") {
		t.Errorf("wrote %s", text)
	}
}
