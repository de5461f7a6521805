package cli

import (
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestServeManagement(t *testing.T) {
	s := startServer(t, "--listen", "127.0.0.1:0", "--management", "127.0.0.1:0")
	url, found := strings.CutPrefix(s.management, ", management API on ")
	if !found {
		t.Fatalf("start line ends in %q", s.management)
	}
	req, err := http.NewRequest(http.MethodGet, url+"/whoami", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("guest", "guest")
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("status %d", res.StatusCode)
	}
	s.stop()
	if code := <-s.code; code != exitOK {
		t.Errorf("status %d: %s", code, s.stderr.String())
	}
	if s := startServer(t, "--listen", "127.0.0.1:0", "--management", "off"); s.management != "" {
		t.Errorf("start line ends in %q", s.management)
	}
}

// TestServeManagementTaken: an address that is named has to be free, the default
// one need not.
func TestServeManagementTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := run(t, "", "serve", "--memory", "--listen", "127.0.0.1:0", "--management", l.Addr().String())
	got.want(t, exitFailed, "", "warren: cannot listen on "+l.Addr().String()+
		" for the management API: the address is already in use (choose another with --management, or --management off)\n")

	run(t, "", "serve", "--management", "15672").want(t, exitUsage, "", "warren: --management: \"15672\" is not an address such as :5672 or 127.0.0.1:5672; or off for none\n")

	held, err := net.Listen("tcp", ":15672")
	if err != nil {
		t.Skipf("the default port is in use here, by somebody who may go: %v", err)
	}
	defer held.Close()
	s := startServer(t, "--listen", "127.0.0.1:0")
	const want = ", no management API: :15672 is already in use (choose another address with --management, or off)"
	if s.management != want {
		t.Errorf("start line ends in %q", s.management)
	}
}
