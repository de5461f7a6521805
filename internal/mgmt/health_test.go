package mgmt

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/warrenmq/warren/internal/engine"
)

// TestAlarm: an alarm shows in the health check and the node, and nothing is
// published by hand meanwhile.
func TestAlarm(t *testing.T) {
	r := newRigWith(t, engine.Config{VHosts: []string{"/"}, MemoryLimitBytes: 2 << 20})
	r.declare("q")
	r.want(http.MethodGet, "/api/health/checks/alarms", "", 200, `{"status":"ok"}`)
	for range 4 {
		r.publish("q", strings.Repeat("x", 1<<20))
		if r.e.NodeStatus().MemoryAlarm {
			break
		}
	}
	for _, path := range []string{"alarms", "local-alarms"} {
		r.want(http.MethodGet, "/api/health/checks/"+path, "", 503, `{"status":"failed","reason":"There are alarms in effect in the cluster",`+
			`"alarms":[{"node":"warren@test","resource":"memory"}]}`)
	}
	r.want(http.MethodGet, "/api/nodes/warren@test?columns=mem_alarm,disk_free_alarm", "", 200, `{"mem_alarm":true,"disk_free_alarm":false}`)
	r.want(http.MethodPost, "/api/exchanges/%2F/amq.default/publish", `{"properties":{},"routing_key":"q","payload":"","payload_encoding":"string"}`,
		400, `{"error":"bad_request","reason":"506 RESOURCE_ERROR - publishers are blocked: low on memory"}`)
	r.want(http.MethodDelete, "/api/queues/%2F/q/contents", "", 204, "")
	r.want(http.MethodGet, "/api/health/checks/alarms", "", 200, `{"status":"ok"}`)
	r.publish("q", "y")
}

// TestOtherSites cannot use a login that a browser remembers.
func TestOtherSites(t *testing.T) {
	r := newRig(t)
	r.declare("q")
	for site, want := range map[string]int{"cross-site": 403, "same-origin": 204, "": 204} {
		req := httptest.NewRequest(http.MethodDelete, "/api/queues/%2F/q/contents", nil)
		req.RemoteAddr = "127.0.0.1:1"
		req.SetBasicAuth("guest", "guest")
		if site != "" {
			req.Header.Set("Sec-Fetch-Site", site)
		}
		w := httptest.NewRecorder()
		r.api.ServeHTTP(w, req)
		if w.Code != want {
			t.Errorf("%q: %d %s", site, w.Code, w.Body)
		}
	}
}
