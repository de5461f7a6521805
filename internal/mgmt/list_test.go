package mgmt

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/warrenmq/warren/internal/wire"
)

func TestPages(t *testing.T) {
	r := newRig(t)
	for i := range 25 {
		r.declare(fmt.Sprintf("q%02d", i))
	}
	for i := range 5 {
		for range i {
			r.publish(fmt.Sprintf("q%02d", 10+i), "x")
		}
	}
	page := func(filtered, items int, rows string, n, count, size int) string {
		return fmt.Sprintf(`{"filtered_count":%d,"item_count":%d,"items":[%s],"page":%d,"page_count":%d,"page_size":%d,"total_count":25}`,
			filtered, items, rows, n, count, size)
	}
	rows := func(names ...string) string {
		for i := range names {
			names[i] = `{"name":"` + names[i] + `"}`
		}
		return strings.Join(names, ",")
	}
	for query, want := range map[string]string{
		"page=1&page_size=2":  page(25, 2, rows("q00", "q01"), 1, 13, 2),
		"page=13&page_size=2": page(25, 1, rows("q24"), 13, 13, 2),
		"page=1&page_size=2&sort=messages&sort_reverse=true": page(25, 2, rows("q14", "q13"), 1, 13, 2),
		"page=2&page_size=2&sort=messages&sort_reverse=true": page(25, 2, rows("q12", "q11"), 2, 13, 2),
		"page=1&page_size=2&name=Q1":                         page(10, 2, rows("q10", "q11"), 1, 5, 2),
		"page=1&page_size=9&name=^q.4$&use_regex=true":       page(3, 3, rows("q04", "q14", "q24"), 1, 1, 9),
		"page=1&name=none":                                   page(0, 0, "", 1, 0, 100),
	} {
		r.want(http.MethodGet, "/api/queues/%2F?columns=name&"+query, "", 200, want)
	}
	r.want(http.MethodGet, "/api/queues/%2F?page=14&page_size=2", "", 400,
		`{"error":"page_out_of_range","reason":"Page out of range, page: 14 page size: 2, len: 25"}`)
}

// TestMethods and headers.
func TestMethods(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		method, path, allow string
		status              int
	}{
		{http.MethodOptions, "/api/queues/%2F/q/get", "POST, OPTIONS", 200},
		{http.MethodOptions, "/api/overview", "HEAD, GET, OPTIONS", 200},
		{http.MethodPut, "/api/queues/%2F", "HEAD, GET, OPTIONS", 405},
		{http.MethodPatch, "/api/overview", "HEAD, GET, OPTIONS", 405},
		{http.MethodHead, "/api/overview", "HEAD, GET, OPTIONS", 200},
	} {
		req := httptest.NewRequest(c.method, c.path, nil)
		req.RemoteAddr = "127.0.0.1:1"
		req.SetBasicAuth("guest", "guest")
		w := httptest.NewRecorder()
		r.api.ServeHTTP(w, req)
		if w.Code != c.status || w.Header().Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, Allow %q", c.method, c.path, w.Code, w.Header().Get("Allow"))
		}
	}
}

// TestEverythingWhileItChanges asks every path while clients come, publish,
// consume and go: what comes back must be JSON, and nothing may race.
func TestEverythingWhileItChanges(t *testing.T) {
	r := newRig(t)
	r.declare("q0", "q1")
	paths := []string{"/metrics"}
	for _, routes := range r.api.routes {
		for _, route := range routes {
			if route.methods[http.MethodGet] != nil {
				path := "/api/" + strings.Join(route.segments, "/")
				path = strings.Replace(path, "*", "%2F", 1)
				paths = append(paths, strings.ReplaceAll(path, "*", "q0"))
			}
		}
	}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for n := range 3 {
		clients.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				r.live(fmt.Sprintf("q%d", n%2), 41000+n)
			}
		})
	}
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for range 5 {
				for _, path := range paths {
					if code, text := r.ask("guest", http.MethodGet, path, ""); code == 500 || code == 401 {
						t.Errorf("%s: %d %s", path, code, text)
					}
				}
			}
		})
	}
	readers.Wait()
	close(stop)
	clients.Wait()
}

// live is a client's life.
func (r *rig) live(queue string, port int) {
	c, ch := r.open("/", "guest", port)
	defer c.Close()
	if err := ch.SelectConfirm(); err != nil {
		r.t.Error(err)
	}
	own := fmt.Sprintf("own-%d", port)
	if _, err := ch.DeclareQueue(&wire.QueueDeclare{Queue: own, Exclusive: true}); err != nil {
		r.t.Error(err)
	}
	if err := ch.BindQueue(&wire.QueueBind{Queue: own, Exchange: "amq.topic", RoutingKey: "#"}); err != nil {
		r.t.Error(err)
	}
	if err := ch.Consume(consumeOf(queue)); err != nil {
		r.t.Error(err)
	}
	ch.Qos(3, false)
	for range 5 {
		if _, err := r.e.PublishMessage(r.t.Context(), "/", "guest", publicationTo(queue)); err != nil {
			r.t.Error(err)
		}
		if _, err := ch.Get(own, true); err != nil {
			r.t.Error(err)
		}
	}
	if err := ch.Ack(0, true); err != nil {
		r.t.Error(err)
	}
}

func TestSortFirst(t *testing.T) {
	for _, n := range []int{0, 1, 5, 40, 99, 100} {
		list := rand.New(rand.NewPCG(1, uint64(n))).Perm(100)
		sortFirst(list, n, cmp.Compare[int])
		for i, v := range list[:n] {
			if v != i {
				t.Fatalf("n=%d: %v", n, list[:n])
			}
		}
		slices.Sort(list)
		for i, v := range list {
			if v != i {
				t.Fatalf("n=%d: something was lost", n)
			}
		}
	}
}
