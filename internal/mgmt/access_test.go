package mgmt

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/warrenmq/warren/internal/auth"
)

const (
	notManagement  = `{"error":"not_authorised","reason":"Not management user"}`
	notMonitor     = `{"error":"not_authorised","reason":"Not monitor user"}`
	notAdmin       = `{"error":"not_authorised","reason":"Not administrator user"}`
	notObject      = `{"error":"not_authorised","reason":"User not authorised to access object"}`
	notFoundHere   = `{"error":"not_found","reason":"Not Found"}`
	objectNotFound = `{"error":"Object Not Found","reason":"Not Found"}`
	wrongPassword  = `{"error":"not_authorized","reason":"Not_Authorized"}`
)

// addUser adds a user with the password of the same name.
func (r *rig) addUser(name string, vhosts []string, tags ...string) {
	r.t.Helper()
	err := r.users.Add(name, name)
	if err == nil && vhosts != nil {
		err = r.users.LimitToVhosts(name, vhosts...)
	}
	if err == nil && tags != nil {
		err = r.users.SetTags(name, tags...)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func TestLogin(t *testing.T) {
	r := newRig(t)
	req := httptest.NewRequest(http.MethodGet, "/api/whoami", nil)
	w := httptest.NewRecorder()
	r.api.ServeHTTP(w, req)
	if w.Code != 401 || w.Body.Len() > 0 || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("nobody: %d %s %v", w.Code, w.Body, w.Header())
	}
	for _, c := range []struct {
		peer, user, password string
		status               int
		want                 string
	}{
		{"127.0.0.1:1", "guest", "guest", 200, `{"name":"guest","tags":["administrator"],"is_internal_user":true}`},
		{"[::1]:1", "guest", "guest", 200, `{"name":"guest","tags":["administrator"],"is_internal_user":true}`},
		{"192.0.2.1:1", "guest", "guest", 401, wrongPassword}, // limited to loopback
		{"nonsense", "guest", "guest", 401, wrongPassword},
		{"127.0.0.1:1", "guest", "wrong", 401, wrongPassword},
		{"127.0.0.1:1", "guest", "", 401, wrongPassword},
		{"127.0.0.1:1", "nobody", "guest", 401, wrongPassword},
	} {
		if code, got := r.askFrom(c.peer, c.user, c.password, http.MethodGet, "/api/whoami", ""); code != c.status || got != c.want {
			t.Errorf("%s:%s from %s: %d %s", c.user, c.password, c.peer, code, got)
		}
	}
	// Without a login: the version and the sums.
	for _, path := range []string{"/api/version", "/metrics"} {
		if code, _ := r.askFrom("192.0.2.1:1", "", "", http.MethodGet, path, ""); code != 200 {
			t.Errorf("%s: %d", path, code)
		}
	}
}

// TestTags is what RabbitMQ 4.3 answers to users with each tag.
func TestTags(t *testing.T) {
	r := newRig(t)
	r.declare("q")
	r.addUser("none", nil, []string{}...)
	if err := r.users.SetTags("none"); err != nil {
		t.Fatal(err)
	}
	r.addUser("shop", []string{"shop"}) // by default: management
	r.addUser("watch", []string{"shop"}, auth.Monitoring)
	r.addUser("policy", []string{"shop"}, auth.Policymaker)
	r.addUser("chief", nil)
	c, ch := r.open("shop", "shop", 40001)
	defer c.Close()
	_ = ch
	const shopConn, guestConn = "127.0.0.1:40001 -> 127.0.0.1:5672", "127.0.0.1:40000 -> 127.0.0.1:5672"
	for _, x := range []struct {
		user, path string
		status     int
		want       string
	}{
		{"none", "/api/whoami", 401, notManagement},
		{"none", "/api/health/checks/alarms", 401, notManagement},
		{"shop", "/api/whoami", 200, `{"name":"shop","tags":["management"],"is_internal_user":true}`},
		{"shop", "/api/vhosts?columns=name", 200, `[{"name":"shop"}]`},
		{"shop", "/api/vhosts/shop", 401, notAdmin},
		{"shop", "/api/queues?columns=name", 200, `[]`},
		{"shop", "/api/queues/%2F", 404, notFoundHere},
		{"shop", "/api/queues/%2F/q", 404, notFoundHere},
		{"shop", "/api/bindings/%2F/e/amq.default/q/q", 404, notFoundHere},
		{"shop", "/api/consumers/%2F", 404, notFoundHere},
		{"shop", "/api/queues/shop", 200, `[]`},
		{"shop", "/api/connections?columns=name", 200, `[{"name":"` + shopConn + `"}]`},
		{"shop", "/api/channels?columns=name", 200, `[{"name":"` + shopConn + ` (1)"}]`},
		{"shop", "/api/connections/" + strings.ReplaceAll(guestConn, " ", "%20"), 401, notObject},
		{"shop", "/api/channels/" + strings.ReplaceAll(guestConn, " ", "%20") + "%20(1)", 401, notObject},
		{"shop", "/api/connections/username/guest", 401, notObject},
		{"shop", "/api/nodes", 401, notMonitor},
		{"shop", "/api/users", 401, notAdmin},
		{"shop", "/api/permissions", 401, notAdmin},
		{"shop", "/api/definitions", 401, notAdmin},
		{"shop", "/api/parameters", 401, notObject},
		{"shop", "/api/overview?columns=object_totals,node", 200, `{"object_totals":{"channels":1,"connections":1,"exchanges":7,"queues":0}}`},
		{"policy", "/api/parameters", 200, `[]`},
		{"policy", "/api/nodes", 401, notMonitor},
		{"watch", "/api/connections?columns=name", 200, `[{"name":"` + guestConn + `"},{"name":"` + shopConn + `"}]`},
		{"watch", "/api/vhosts?columns=name", 200, `[{"name":"/"},{"name":"shop"}]`},
		{"watch", "/api/consumers/%2F", 200, `[]`},
		{"watch", "/api/queues/%2F", 404, notFoundHere},
		{"watch", "/api/nodes?columns=name", 200, `[{"name":"warren@test"}]`},
		{"watch", "/api/users", 401, notAdmin},
		{"chief", "/api/permissions/shop/watch", 200, `{"user":"watch","vhost":"shop","configure":".*","write":".*","read":".*"}`},
		{"chief", "/api/permissions/%2F/watch", 404, objectNotFound},
		{"chief", "/api/queues?columns=name,vhost", 200, `[{"name":"q","vhost":"/"}]`},
		{"chief", "/api/queues/nowhere", 404, objectNotFound},
	} {
		r.wantAs(x.user, http.MethodGet, x.path, "", x.status, x.want)
	}
	r.wantAs("shop", http.MethodPost, "/api/queues/%2F/q/get", `{"count":1,"ackmode":"ack_requeue_true","encoding":"auto"}`, 404, notFoundHere)
	r.wantAs("shop", http.MethodDelete, "/api/queues/%2F/q/contents", "", 404, notFoundHere)
	if err := r.users.SetTags("shop", "king"); err == nil {
		t.Error("there is a tag king")
	}
}
