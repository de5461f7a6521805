package mgmt

import (
	"slices"
	"strings"

	"github.com/warrenmq/warren/internal/auth"
)

func (q *request) users() []auth.Description {
	var all []auth.Description
	for _, name := range q.api.Users.Names() {
		if d, ok := q.api.Users.Describe(name); ok {
			all = append(all, d)
		}
	}
	return all
}

func userRow(d auth.Description) object {
	return object{
		{"name", d.Name}, {"password_hash", d.PasswordHash}, {"hashing_algorithm", "rabbit_password_hashing_sha256"},
		{"tags", d.Tags}, {"limits", object{}},
	}
}

func (q *request) listUsers() error {
	return list[auth.Description]{
		things: q.users(), paging: true, name: func(d auth.Description) string { return d.Name },
		before: func(a, b auth.Description) int { return strings.Compare(a.Name, b.Name) },
		row:    userRow,
	}.send(q)
}

func (q *request) getUser() error {
	d, ok := q.api.Users.Describe(q.params[0])
	if !ok {
		return errNotFound()
	}
	return q.reply(userRow(d))
}

// usersWithoutPermissions is always empty: a user may open some virtual host.
func (q *request) usersWithoutPermissions() error { return q.reply([]object{}) }

// permission is what a user may do in a virtual host that it may open: all.
func permission(user, vhost string) object {
	return object{{"user", user}, {"vhost", vhost}, {"configure", ".*"}, {"write", ".*"}, {"read", ".*"}}
}

// permissions are those of some users in some virtual hosts.
func (q *request) permissions(users, vhosts []string) []object {
	rows := []object{}
	for _, u := range users {
		for _, v := range vhosts {
			if q.api.Users.CanOpen(u, v) {
				rows = append(rows, permission(u, v))
			}
		}
	}
	return rows
}

func (q *request) listPermissions() error {
	return q.reply(q.permissions(q.api.Users.Names(), q.api.Topology.VHosts()))
}

func (q *request) getPermission() error {
	vhost, user := q.params[0], q.params[1]
	if !slices.Contains(q.api.Topology.VHosts(), vhost) || !q.api.Users.CanOpen(user, vhost) {
		return errNotFound()
	}
	return q.reply(permission(user, vhost))
}

func (q *request) userPermissions() error {
	if _, ok := q.api.Users.Describe(q.params[0]); !ok {
		return errNotFound()
	}
	return q.reply(q.permissions(q.params[:1], q.api.Topology.VHosts()))
}

func (q *request) vhostPermissions() error {
	if !slices.Contains(q.api.Topology.VHosts(), q.params[0]) {
		return errNotFound()
	}
	return q.reply(q.permissions(q.api.Users.Names(), q.params[:1]))
}
