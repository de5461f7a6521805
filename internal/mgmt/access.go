package mgmt

import (
	"net"
	"net/http"
	"slices"

	"github.com/warrenmq/warren/internal/auth"
)

// access is what a path asks of those who want to see it.
type access int

const (
	anybody  access = iota // without a login
	manage                 // any tag
	monitor                // monitoring or administrator
	policies               // policymaker or administrator
	administer
)

// caller is who asks.
type caller struct {
	name  string
	tags  []string
	users *auth.Users
}

func (c *caller) is(tags ...string) bool {
	return slices.ContainsFunc(c.tags, func(t string) bool { return slices.Contains(tags, t) })
}

func (c *caller) administers() bool { return c.is(auth.Administrator) }

// monitors tells whether the caller may see all connections and the node.
func (c *caller) monitors() bool { return c.is(auth.Administrator, auth.Monitoring) }

func (c *caller) opens(vhost string) bool { return c.users.CanOpen(c.name, vhost) }

// authorize finds out who asks (HTTP basic authentication) and whether he may.
func (q *request) authorize(need access) error {
	if need == anybody {
		return nil
	}
	c, err := q.api.login(q.http)
	if err != nil {
		return err
	}
	q.caller = c
	switch {
	case len(c.tags) == 0:
		return notAuthorised("Not management user")
	case need == monitor && !c.monitors():
		return notAuthorised("Not monitor user")
	case need == policies && !c.is(auth.Policymaker, auth.Administrator):
		return notAuthorised("User not authorised to access object")
	case need == administer && !c.administers():
		return notAuthorised("Not administrator user")
	}
	return nil
}

// notAuthorised is for those who are known but may not; RabbitMQ spells it so,
// and not_authorized for those who are not known.
func notAuthorised(reason string) *failure {
	return &failure{http.StatusUnauthorized, "not_authorised", reason}
}

func (a *API) login(r *http.Request) (caller, error) {
	name, password, given := r.BasicAuth()
	if !given {
		return caller{}, &failure{status: http.StatusUnauthorized}
	}
	if reason, ok := a.Users.Login(name, password, isLoopback(r.RemoteAddr)); !ok {
		a.Logger.Warn("management login refused", "user", name, "peer", r.RemoteAddr, "reason", reason)
		return caller{}, &failure{http.StatusUnauthorized, "not_authorized", "Not_Authorized"}
	}
	d, _ := a.Users.Describe(name) // it was there a moment ago; without it there are no tags
	return caller{name: name, tags: d.Tags, users: a.Users}, nil
}

func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
