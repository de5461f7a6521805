package auth

import (
	"encoding/base64"
	"fmt"
	"slices"
)

// The tags that open the management API, as in RabbitMQ.
const (
	Administrator = "administrator" // everything
	Monitoring    = "monitoring"    // all connections and the node besides the vhosts it may open
	Policymaker   = "policymaker"   // policies of the vhosts it may open
	Management    = "management"    // what the user could see over AMQP
)

// SetTags says what a user may do in the management API: any of the tags above.
// No tags mean that it may not use it.
func (u *Users) SetTags(name string, tags ...string) error {
	for _, t := range tags {
		if !slices.Contains([]string{Administrator, Monitoring, Policymaker, Management}, t) {
			return fmt.Errorf("user '%s': there is no tag '%s' (administrator, monitoring, policymaker or management)", name, t)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	entry, ok := u.byName[name]
	if !ok {
		return fmt.Errorf("there is no user '%s'", name)
	}
	entry.tags = append([]string{}, tags...)
	u.byName[name] = entry
	return nil
}

// Description is what is known of a user.
type Description struct {
	Name         string
	PasswordHash string   // see HashPassword
	Tags         []string // never nil
	VHosts       []string // that it may open; empty for all
}

// Describe returns what is known of a user. A user whose tags nobody has set is
// an administrator, or, if limited to some vhosts, has the tag management.
func (u *Users) Describe(name string) (d Description, ok bool) {
	u.mu.RLock()
	entry, ok := u.byName[name]
	u.mu.RUnlock()
	if !ok {
		return d, false
	}
	d = Description{Name: name, PasswordHash: base64.StdEncoding.EncodeToString(entry.hash[:]),
		Tags: slices.Clone(entry.tags), VHosts: slices.Clone(entry.vhosts)}
	switch {
	case entry.tags != nil:
	case len(entry.vhosts) == 0:
		d.Tags = []string{Administrator}
	default:
		d.Tags = []string{Management}
	}
	return d, true
}

// Login checks a name and password that did not come over AMQP. Loopback tells
// whether the peer address is a loopback address. The reason is for the log.
func (u *Users) Login(name, password string, loopback bool) (reason string, ok bool) {
	return u.verify(name, password, loopback)
}

// CanOpen tells whether the user may open the vhost.
func (u *Users) CanOpen(name, vhost string) bool {
	return u.CheckVhost(name, vhost) == nil
}
