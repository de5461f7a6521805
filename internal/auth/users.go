package auth

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/warrenmq/warren/internal/wire"
)

// GuestName is the default user and its password, and by default the only user
// that may log in from loopback only (RabbitMQ's loopback_users).
const GuestName = "guest"

// Users is the set of users who may log in. Make it with NewUsers or Guest.
// All methods are safe for concurrent use.
type Users struct {
	mu       sync.RWMutex
	byName   map[string]user
	loopback map[string]bool // may log in from a loopback address only
}

type user struct {
	hash   hash
	vhosts []string // nil: every vhost
	tags   []string // nil: by the vhosts, see Tags
}

// NewUsers returns an empty set in which guest, if it is added, may log in from
// loopback addresses only.
func NewUsers() *Users {
	return &Users{byName: map[string]user{}, loopback: map[string]bool{GuestName: true}}
}

// Guest returns a set with the one user guest, password guest, loopback only:
// what a fresh RabbitMQ has.
func Guest() *Users {
	u := NewUsers()
	u.put(GuestName, user{hash: newHash(GuestName)})
	return u
}

// Add adds a user, or gives an existing one a new password. The name and the
// password must not be empty.
func (u *Users) Add(name, password string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if password == "" {
		return fmt.Errorf("user '%s': %w", name, errEmptyPassword)
	}
	u.put(name, user{hash: newHash(password)})
	return nil
}

// AddHash is Add with RabbitMQ's base64 form of a salted hash, see HashPassword.
func (u *Users) AddHash(name, passwordHash string) error {
	if err := checkName(name); err != nil {
		return err
	}
	h, err := parseHash(passwordHash)
	if err != nil {
		return fmt.Errorf("user '%s': %w", name, err)
	}
	u.put(name, user{hash: h})
	return nil
}

func checkName(name string) error {
	if name == "" {
		return errors.New("a user needs a name")
	}
	// A user name travels as a short string in user-id.
	if len(name) > 255 {
		return fmt.Errorf("the user name '%.20s…' has %d bytes, at most 255 are allowed", name, len(name))
	}
	return nil
}

func (u *Users) put(name string, entry user) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if old, ok := u.byName[name]; ok && entry.vhosts == nil {
		entry.vhosts, entry.tags = old.vhosts, old.tags
	}
	u.byName[name] = entry
}

// Remove removes a user and tells whether it was there.
func (u *Users) Remove(name string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, ok := u.byName[name]
	delete(u.byName, name)
	return ok
}

// Names returns all user names, sorted.
func (u *Users) Names() []string {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return slices.Sorted(maps.Keys(u.byName))
}

// LimitToLoopback replaces the list of users that may log in from loopback
// addresses only. No names: every user may log in from anywhere. A name need
// not (yet) be a user.
func (u *Users) LimitToLoopback(names ...string) {
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.loopback = set
}

// LimitToVhosts lets a user open only the vhosts named. Without names the user
// may open every vhost, which is also how a user starts.
func (u *Users) LimitToVhosts(name string, vhosts ...string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	entry, ok := u.byName[name]
	if !ok {
		return fmt.Errorf("there is no user '%s'", name)
	}
	entry.vhosts = slices.Clone(vhosts)
	u.byName[name] = entry
	return nil
}

// CheckVhost returns nil if the user may open the vhost, else RabbitMQ's 530 for
// connection.open. It does not know which vhosts exist.
func (u *Users) CheckVhost(name, vhost string) *wire.Error {
	u.mu.RLock()
	entry, ok := u.byName[name]
	u.mu.RUnlock()
	if ok && (len(entry.vhosts) == 0 || slices.Contains(entry.vhosts, vhost)) {
		return nil
	}
	return wire.ConnectionError(wire.NotAllowed, "access to vhost '%s' refused for user '%s'", vhost, name)
}

// verify checks a password. An unknown user costs the same work as a known one,
// so that response times do not tell which names exist.
func (u *Users) verify(name, password string, loopback bool) (reason string, ok bool) {
	u.mu.RLock()
	entry, known := u.byName[name]
	limited := u.loopback[name]
	u.mu.RUnlock()
	matches := entry.hash.matches(password)
	switch {
	case !known || !matches:
		return "invalid credentials", false
	case limited && !loopback:
		return "this user can only connect from a loopback address", false
	}
	return "", true
}
