package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// result is what one command line did.
type result struct {
	stdout, stderr string
	code           int
}

// run carries out a command line with the text as stdin.
func run(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := Run(t.Context(), args, strings.NewReader(stdin), &stdout, &stderr)
	return result{stdout.String(), stderr.String(), code}
}

// want checks all of a result; stderr may be given by its beginning with "…" at the end.
func (r result) want(t *testing.T, code int, stdout, stderr string) {
	t.Helper()
	prefix, cut := strings.CutSuffix(stderr, "…")
	matches := r.stderr == stderr || cut && strings.HasPrefix(r.stderr, prefix)
	if r.code != code || r.stdout != stdout || !matches {
		t.Errorf("got  status %d\nstdout %q\nstderr %q\nwant status %d\nstdout %q\nstderr %q", r.code, r.stdout, r.stderr, code, stdout, stderr)
	}
}

func TestUsageErrorsAreOneLine(t *testing.T) {
	t.Setenv(urlEnv, "amqp://guest:s3cret@127.0.0.1:1/")
	for _, c := range []struct {
		args string
		want string
	}{
		{"pubish", `unknown command "pubish", did you mean "publish"? (see warren --help)`},
		{"xyzzy", `unknown command "xyzzy" (see warren --help)`},
		{"declare qeue a", `unknown command "qeue", did you mean "queue"? (see warren declare --help)`},
		{"get --jsno q", `unknown flag --jsno, did you mean --json? (see warren get --help)`},
		{"get -x q", `unknown flag -x (see warren get --help)`},
		{"get", `warren get wants QUEUE, got 0 arguments (see warren get --help)`},
		{"bind a", `warren bind wants EXCHANGE QUEUE, got 1 arguments (see warren bind --help)`},
		{"get q --count many", `--count: "many" is not a whole number (see warren get --help)`},
		{"get q --count", `flag needs an argument: --count (see warren get --help)`},
		{"get q --timeout soon", `--timeout: "soon" is not a duration such as 500ms, 10s or 5m (see warren get --help)`},
		{"get q --count 0", `--count must be at least 1 (see warren get --help)`},
		{"get q --requeue --no-requeue", `--requeue and --no-requeue contradict each other (see warren get --help)`},
		{"version now", `version takes no argument, got "now" (see warren version --help)`},
		{"publish", `where to? Give --queue NAME, or --exchange NAME and perhaps --routing-key KEY (see warren publish --help)`},
		{"publish -q a -k b", `--queue is the default exchange with the queue as routing key; give either it, or --exchange and --routing-key (see warren publish --help)`},
		{"publish -q a --body x --file y", `--body and --file are two messages; give one of them (see warren publish --help)`},
		{"publish -q a --header nonsense", `--header: "nonsense" is not key=value or key:=JSON (see warren publish --help)`},
		{"publish -q a --priority 300", `--priority: "300" is not a whole number from 0 to 255 (see warren publish --help)`},
		{"consume", `consume what? Name a QUEUE, or watch an exchange with --exchange (see warren consume --help)`},
		{"consume q -e x", `give a QUEUE or --exchange, not both (see warren consume --help)`},
		{"consume q --auto-ack -n 5", `--auto-ack with --count would lose what the broker sends beyond the count (see warren consume --help)`},
		{"consume q --prefetch 0", `--prefetch must be from 1 to 65535 (see warren consume --help)`},
		{"declare queue q --arg a:=[", `--arg: "a:=[": what follows := is not JSON (see warren declare queue --help)`},
		{"purge q --tls-insecure", `the --tls flags need an amqps:// URL, this one is amqp:// (see warren purge --help)`},
		{"purge q --url amqps://h/ --tls-cert x", `--tls-cert and --tls-key need each other (see warren purge --help)`},
		{"purge q --url=", `--url is empty (see warren purge --help)`},
		{"purge q --url http://guest:s3cret@h/", `--url is not an AMQP URL; want amqp://user:password@host:5672/vhost (or amqps://), with special characters percent-encoded (see warren purge --help)`},
		{"purge q --url amqp://guest:s3/cret@h/", `--url is not an AMQP URL; want amqp://…`},
	} {
		t.Run(c.args, func(t *testing.T) {
			got := run(t, "", strings.Fields(c.args)...)
			want := "warren: " + c.want
			if !strings.HasSuffix(want, "…") {
				want += "\n"
			}
			got.want(t, exitUsage, "", want)
			if strings.Count(got.stderr, "\n") != 1 || strings.Contains(got.stderr, "cret") {
				t.Errorf("not one line, or it shows a password: %q", got.stderr)
			}
		})
	}
}

func TestTheEnvironmentsURLIsNamedNotShown(t *testing.T) {
	t.Setenv(urlEnv, "amqp//guest:s3cret@h")
	run(t, "", "purge", "q").want(t, exitUsage, "", "warren: $AMQP_URL is not an AMQP URL; want …")
}

func TestEveryCommandTeaches(t *testing.T) {
	for _, name := range []string{"publish", "consume", "get", "dlq ls", "dlq show", "dlq redrive", "dlq purge", "dlq export", "dlq import", "declare queue", "declare exchange", "delete queue", "delete exchange", "purge", "bind", "unbind", "hash-password", "topology plan", "topology apply", "topology verify", "doctor"} {
		got := run(t, "", append(strings.Fields(name), "--help")...)
		if got.code != exitOK || got.stderr != "" || !strings.Contains(got.stdout, "Examples:\n  warren ") && !strings.Contains(got.stdout, "| warren ") {
			t.Errorf("%s --help: status %d, stderr %q, no example in\n%s", name, got.code, got.stderr, got.stdout)
		}
	}
	got := run(t, "")
	if got.code != exitOK || !strings.Contains(got.stdout, "Usage:") {
		t.Errorf("warren alone: status %d, %q", got.code, got.stdout)
	}
}

func TestVersion(t *testing.T) {
	got := run(t, "", "version")
	if got.code != exitOK || !strings.HasPrefix(got.stdout, "WarrenMQ "+Version()+" go") {
		t.Errorf("got %+v", got)
	}
	if v := Version(); v == "" || v[0] == 'v' {
		t.Errorf("version %q", v)
	}
}

func TestHashPassword(t *testing.T) {
	got := run(t, "s3cret\r\n", "hash-password")
	if got.code != exitOK || got.stderr != "" || len(got.stdout) != 49 || strings.Contains(got.stdout, "s3cret") {
		t.Errorf("got %+v, want 48 characters of base64", got)
	}
	run(t, "\n", "hash-password").want(t, exitFailed, "", "warren: the password is empty (an empty password can never log in)\n")
}

func TestCancelledBeforeConnecting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stderr bytes.Buffer
	code := Run(ctx, []string{"get", "q", "--url", "amqp://127.0.0.1:1"}, strings.NewReader(""), &stderr, &stderr)
	if code != exitFailed || strings.Count(stderr.String(), "\n") != 1 {
		t.Errorf("status %d, %q", code, stderr.String())
	}
}
