package demo

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
)

// noEmbedded fails the test if the command asks for an embedded broker.
func noEmbedded(t *testing.T) Embedded {
	return func(context.Context) (func(string, string) (net.Conn, error), func(), error) {
		t.Error("the embedded broker was started")
		return nil, nil, errors.New("no embedded broker")
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
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("AMQP_URL", tc.env)
			cmd := Command(os.Getenv, noEmbedded(t))
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
	t.Setenv("AMQP_URL", "")
	refused := errors.New("refused on purpose")
	started, dialled, stopped := 0, 0, 0
	cmd := Command(os.Getenv, func(context.Context) (func(string, string) (net.Conn, error), func(), error) {
		started++
		return func(string, string) (net.Conn, error) { dialled++; return nil, refused }, func() { stopped++ }, nil
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
