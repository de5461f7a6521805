package mgmt

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// route is one path with what may be done there. A segment that is "*" stands for
// any text, which becomes a parameter.
type route struct {
	segments []string
	access   access
	methods  map[string]func(*request) error
}

// request is one request on its way.
type request struct {
	api    *API
	w      http.ResponseWriter
	http   *http.Request
	caller caller
	params []string
	list   query
	begun  bool
}

// failure is an answer that is not 200: RabbitMQ's error body.
type failure struct {
	status int
	err    string
	reason any
}

// Error implements error.
func (f *failure) Error() string { return f.err }

func badRequest(reason any) *failure {
	return &failure{http.StatusBadRequest, "bad_request", reason}
}

// errNotFound is what RabbitMQ says of everything that is not there.
func errNotFound() *failure { return &failure{http.StatusNotFound, "Object Not Found", "Not Found"} }

// add adds a path. methods are pairs of a name and a handler; GET stands for HEAD
// too.
func (a *API) add(path string, need access, handlers map[string]func(*request) error) {
	segments := strings.Split(path, "/")
	key := routeKey(segments)
	a.routes[key] = append(a.routes[key], route{segments, need, handlers})
}

func (a *API) get(path string, need access, handler func(*request) error) {
	a.add(path, need, map[string]func(*request) error{http.MethodGet: handler})
}

func routeKey(segments []string) string { return strconv.Itoa(len(segments)) + segments[0] }

// find returns the route of a path, literal segments first.
func (a *API) find(segments []string) (*route, []string) {
	routes := a.routes[routeKey(segments)]
	for i := range routes {
		if params, ok := routes[i].match(segments); ok {
			return &routes[i], params
		}
	}
	return nil, nil
}

func (r *route) match(segments []string) (params []string, ok bool) {
	for i, s := range r.segments {
		if s == "*" {
			params = append(params, segments[i])
		} else if s != segments[i] {
			return nil, false
		}
	}
	return params, true
}

func (r *route) allowed() string {
	var names []string
	if r.methods[http.MethodGet] != nil {
		names = append(names, "HEAD", "GET")
	}
	for _, m := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		if r.methods[m] != nil {
			names = append(names, m)
		}
	}
	return strings.Join(append(names, "OPTIONS"), ", ")
}

// splitPath cuts the path below /api into its segments, each unescaped: a name
// may have a slash in it.
func splitPath(escaped string) ([]string, bool) {
	if len(escaped) > maxPathBytes {
		return nil, false
	}
	rest, ok := strings.CutPrefix(escaped, "/api/")
	if !ok {
		return nil, false
	}
	segments := strings.Split(rest, "/")
	if last := len(segments) - 1; last > 0 && segments[last] == "" {
		segments = segments[:last]
	}
	for i, s := range segments {
		text, err := url.PathUnescape(s)
		if err != nil {
			return nil, false
		}
		segments[i] = text
	}
	return segments, true
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// An answer that nobody reads must not be held for ever, whoever's server this
	// is. Servers that have no deadlines (tests) do without.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerWithin))
	if !enter(a.inFlight, r) {
		http.Error(w, "too many requests at the same time", http.StatusServiceUnavailable)
		return
	}
	defer leave(a.inFlight)
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Security-Policy", "script-src 'self'; object-src 'self'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "accept, accept-encoding, origin")
	if r.URL.Path == "/metrics" {
		a.serveMetrics(w, r)
		return
	}
	q := &request{api: a, w: w, http: r}
	if err := q.handle(); err != nil {
		q.fail(err)
	}
}

// enter waits for a place among those who may be there at the same time, but not
// for long. leave has to follow if it reports true.
func enter(places chan struct{}, r *http.Request) bool {
	timer := time.NewTimer(answerWithin / 2)
	defer timer.Stop()
	select {
	case places <- struct{}{}:
		return true
	case <-r.Context().Done():
	case <-timer.C:
	}
	return false
}

func leave(places chan struct{}) { <-places }

func (q *request) handle() error {
	segments, ok := splitPath(q.http.URL.EscapedPath())
	if !ok {
		return errNotFound()
	}
	found, params := q.api.find(segments)
	if found == nil {
		q.w.Header().Set("Allow", "HEAD, GET, OPTIONS")
		return errNotFound()
	}
	q.params = params
	q.w.Header().Set("Allow", found.allowed())
	method := q.http.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if method == http.MethodOptions {
		return nil
	}
	handler := found.methods[method]
	if handler == nil {
		q.w.WriteHeader(http.StatusMethodNotAllowed)
		return nil
	}
	if err := q.api.browsers.Check(q.http); err != nil {
		return &failure{http.StatusForbidden, "not_authorised", err.Error()}
	}
	if err := q.authorize(found.access); err != nil {
		return err
	}
	var err error
	if q.list, err = parseQuery(q.http.URL.Query()); err != nil {
		return err
	}
	if q.http.Method == http.MethodPost {
		if !enter(q.api.heavy, q.http) {
			return &failure{http.StatusServiceUnavailable, "service_unavailable", "too many requests at the same time"}
		}
		defer leave(q.api.heavy)
	}
	q.http.Body = http.MaxBytesReader(q.w, q.http.Body, maxBodyBytes)
	return handler(q)
}

// fail answers with an error. After the first byte of an answer there is nothing
// to say any more.
func (q *request) fail(err error) {
	if q.begun {
		return
	}
	var f *failure
	if !errors.As(err, &f) {
		q.api.Logger.Error("management request failed", "method", q.http.Method, "path", q.http.URL.Path, "error", err)
		f = &failure{http.StatusInternalServerError, "internal_server_error", err.Error()}
	}
	if f.status == http.StatusUnauthorized {
		q.w.Header().Set("WWW-Authenticate", `Basic realm="WarrenMQ Management"`)
	}
	if f.err == "" {
		q.w.WriteHeader(f.status)
		return
	}
	q.send(f.status, object{{"error", f.err}, {"reason", f.reason}})
}

func (q *request) begin(status int) {
	q.begun = true
	q.w.Header().Set("Content-Type", "application/json")
	q.w.WriteHeader(status)
}

// send answers with one value as it is.
func (q *request) send(status int, v any) {
	b := appendJSON(nil, v)
	q.w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	q.begin(status)
	q.w.Write(b) // the client may have gone
}

// reply answers 200 with what the columns leave of an object or a list.
func (q *request) reply(v any) error {
	q.send(http.StatusOK, q.list.columns.of(v))
	return nil
}

func (q *request) noContent() error {
	q.begun = true
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

// vhost is the parameter that names a virtual host: one that exists and that the
// caller may open.
func (q *request) vhost(param int) (string, error) {
	name := q.params[param]
	if !slices.Contains(q.api.Topology.VHosts(), name) {
		return "", errNotFound()
	}
	if !q.caller.opens(name) {
		return "", &failure{http.StatusNotFound, "not_found", "Not Found"}
	}
	return name, nil
}

// visible are the virtual hosts that the caller may open.
func (q *request) visible() []string {
	return slices.DeleteFunc(q.api.Topology.VHosts(), func(name string) bool { return !q.caller.opens(name) })
}
