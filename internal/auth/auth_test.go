package auth

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/warrenmq/warren/internal/wire"
)

func plain(user, password string) []byte { return []byte("\x00" + user + "\x00" + password) }

func amqplain(pairs ...any) []byte {
	var t wire.Table
	for i := 0; i < len(pairs); i += 2 {
		t = append(t, wire.Field{Key: pairs[i].(string), Value: pairs[i+1]})
	}
	return wire.AppendTable(nil, t)[4:]
}

func testUsers(t *testing.T) *Users {
	t.Helper()
	u := Guest()
	if err := u.Add("anna", "s3cret"); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestAuthenticateAccepts(t *testing.T) {
	u := testUsers(t)
	for _, c := range []struct {
		name, mechanism string
		response        []byte
		loopback        bool
		want            string
	}{
		{"plain", "PLAIN", plain("anna", "s3cret"), false, "anna"},
		{"guest from loopback", "PLAIN", plain("guest", "guest"), true, "guest"},
		{"amqplain", "AMQPLAIN", amqplain("LOGIN", "anna", "PASSWORD", "s3cret"), false, "anna"},
		{"amqplain in another order among others", "AMQPLAIN", amqplain("x", int32(1), "PASSWORD", "s3cret", "LOGIN", "anna"), false, "anna"},
		{"amqplain with byte arrays", "AMQPLAIN", amqplain("LOGIN", []byte("anna"), "PASSWORD", []byte("s3cret")), false, "anna"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, f := u.Authenticate(c.mechanism, c.response, c.loopback)
			if f != nil || got != c.want {
				t.Fatalf("got %q, %v; want %q", got, f, c.want)
			}
		})
	}
}

func TestAuthenticateRefuses(t *testing.T) {
	const plainRefused = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
	const amqplainRefused = "ACCESS_REFUSED - Login was refused using authentication mechanism AMQPLAIN. For details see the broker logfile."
	u := testUsers(t)
	for _, c := range []struct {
		name, mechanism string
		response        []byte
		code            uint16
		text            string
		announced       bool
	}{
		{"wrong password", "PLAIN", plain("anna", "nope"), 403, plainRefused, true},
		{"unknown user", "PLAIN", plain("otto", "s3cret"), 403, plainRefused, true},
		{"empty password", "PLAIN", plain("anna", ""), 403, plainRefused, true},
		{"unknown user, empty password", "PLAIN", plain("otto", ""), 403, plainRefused, true},
		{"guest from afar", "PLAIN", plain("guest", "guest"), 403, plainRefused, true},
		{"amqplain wrong password", "AMQPLAIN", amqplain("LOGIN", "anna", "PASSWORD", "x"), 403, amqplainRefused, true},
		{"amqplain password of a wrong type", "AMQPLAIN", amqplain("LOGIN", "anna", "PASSWORD", int32(5)), 403, amqplainRefused, true},
		{"unknown mechanism", "SCRAM", nil, 503, "COMMAND_INVALID - unknown authentication mechanism 'SCRAM'", false},
		{"mechanisms are case-sensitive", "plain", plain("anna", "s3cret"), 503, "COMMAND_INVALID - unknown authentication mechanism 'plain'", false},
		{"plain, empty", "PLAIN", nil, 502, "SYNTAX_ERROR - PLAIN response of 0 bytes invalid", false},
		{"plain without password", "PLAIN", []byte("\x00anna"), 502, "SYNTAX_ERROR - PLAIN response of 5 bytes invalid", false},
		{"plain with authorization identity", "PLAIN", []byte("x\x00anna\x00s3cret"), 502, "SYNTAX_ERROR - PLAIN response of 13 bytes invalid", false},
		{"plain with something after it", "PLAIN", []byte("\x00anna\x00s3cret\x00"), 502, "SYNTAX_ERROR - PLAIN response of 13 bytes invalid", false},
		{"amqplain without password", "AMQPLAIN", amqplain("LOGIN", "anna"), 502, "SYNTAX_ERROR - AMQPLAIN auth info is missing LOGIN or PASSWORD field", false},
		{"amqplain, empty", "AMQPLAIN", nil, 502, "SYNTAX_ERROR - AMQPLAIN auth info is missing LOGIN or PASSWORD field", false},
		{"amqplain of wrong types", "AMQPLAIN", amqplain("LOGIN", true, "PASSWORD", int32(5)), 502, "SYNTAX_ERROR - AMQPLAIN auth info uses unsupported type for LOGIN or PASSWORD field", false},
		{"amqplain not a table", "AMQPLAIN", []byte("\x05LOGINQxx"), 502, "SYNTAX_ERROR - AMQPLAIN response of 9 bytes is not a field table", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			user, f := u.Authenticate(c.mechanism, c.response, false)
			if f == nil || user != "" {
				t.Fatalf("logged in as %q", user)
			}
			if f.Err.Code != c.code || f.Err.ReplyText() != c.text || f.Err.Scope != wire.ScopeConnection || f.Announced != c.announced {
				t.Errorf("got %d %q scope %d announced %v\nwant %d %q announced %v",
					f.Err.Code, f.Err.ReplyText(), f.Err.Scope, f.Announced, c.code, c.text, c.announced)
			}
			if strings.Contains(f.Error(), "s3cret") {
				t.Errorf("the failure shows a password: %v", f)
			}
		})
	}
}

func TestFailureIsAProtocolErrorWithAReason(t *testing.T) {
	u := testUsers(t)
	_, f := u.Authenticate("PLAIN", plain("guest", "guest"), false)
	var e *wire.Error
	if !errors.As(error(f), &e) || e.Code != wire.AccessRefused {
		t.Fatalf("not a wire.Error: %v", f)
	}
	if !strings.HasSuffix(f.Error(), "(user 'guest': this user can only connect from a loopback address)") {
		t.Errorf("log text %q", f.Error())
	}
}

func TestLoopbackLimitIsConfigurable(t *testing.T) {
	u := testUsers(t)
	u.LimitToLoopback("anna")
	if _, f := u.Authenticate("PLAIN", plain("guest", "guest"), false); f != nil {
		t.Errorf("guest is refused although it is not limited: %v", f)
	}
	if _, f := u.Authenticate("PLAIN", plain("anna", "s3cret"), false); f == nil {
		t.Error("anna is limited to loopback but came in from afar")
	}
	if _, f := u.Authenticate("PLAIN", plain("anna", "s3cret"), true); f != nil {
		t.Errorf("anna is refused from loopback: %v", f)
	}
}

func TestVhostAccess(t *testing.T) {
	u := testUsers(t)
	if err := u.CheckVhost("anna", "any"); err != nil {
		t.Fatalf("a user starts with every vhost, got %v", err)
	}
	if err := u.LimitToVhosts("anna", "/", "shop"); err != nil {
		t.Fatal(err)
	}
	if err := u.Add("anna", "new"); err != nil { // a new password keeps the limit
		t.Fatal(err)
	}
	if err := u.CheckVhost("anna", "shop"); err != nil {
		t.Errorf("shop: %v", err)
	}
	for _, user := range []string{"anna", "otto"} {
		err := u.CheckVhost(user, "any")
		want := "NOT_ALLOWED - access to vhost 'any' refused for user '" + user + "'"
		if err == nil || err.Code != 530 || err.ReplyText() != want || err.Scope != wire.ScopeConnection {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if err := u.LimitToVhosts("otto", "/"); err == nil {
		t.Error("limited a user that does not exist")
	}
}

func TestHashes(t *testing.T) {
	// The worked example of RabbitMQ's documentation of password hashing: salt 908DC60A, password test12.
	const documented = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
	u := NewUsers()
	if err := u.AddHash("doc", documented); err != nil {
		t.Fatal(err)
	}
	if _, f := u.Authenticate("PLAIN", plain("doc", "test12"), false); f != nil {
		t.Errorf("documented hash: %v", f)
	}
	if _, f := u.Authenticate("PLAIN", plain("doc", "test13"), false); f == nil {
		t.Error("documented hash accepts a wrong password")
	}
	a, err := HashPassword("x")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := HashPassword("x")
	if a == b {
		t.Error("two hashes of one password are equal: no salt")
	}
	if err := u.AddHash("x", a); err != nil {
		t.Fatal(err)
	}
	if _, f := u.Authenticate("PLAIN", plain("x", "x"), false); f != nil {
		t.Errorf("own hash: %v", f)
	}
}

func TestAddRejects(t *testing.T) {
	u := NewUsers()
	for name, err := range map[string]error{
		"no name":        u.Add("", "x"),
		"long name":      u.Add(strings.Repeat("n", 256), "x"),
		"empty password": u.Add("anna", ""),
		"no base64":      u.AddHash("anna", "s3cret!"),
		"short hash":     u.AddHash("anna", "c2VjcmV0"),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: the error repeats the secret: %v", name, err)
		}
	}
	if _, err := HashPassword(""); err == nil {
		t.Error("hashed an empty password")
	}
	if n := u.Names(); len(n) != 0 {
		t.Errorf("users %v were added", n)
	}
}

func TestUsersMayChangeDuringLogins(t *testing.T) {
	u := testUsers(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				u.Authenticate("PLAIN", plain("anna", "s3cret"), true)
				u.CheckVhost("anna", "/")
				u.Names()
			}
		})
	}
	for range 50 {
		if err := u.Add("anna", "s3cret"); err != nil {
			t.Error(err)
		}
		u.LimitToLoopback("anna", "guest")
		u.Remove("guest")
	}
	wg.Wait()
	if n := u.Names(); len(n) != 1 || n[0] != "anna" {
		t.Errorf("users %v, want anna only", n)
	}
}
