package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
)

// saltBytes is the length of the random prefix of a password hash.
const saltBytes = 4

// hash is RabbitMQ's salted SHA-256: the salt, then SHA-256(salt + password).
type hash [saltBytes + sha256.Size]byte

// HashPassword returns base64(salt + SHA-256(salt + password)) with a random
// 4-byte salt: RabbitMQ's password_hash under rabbit_password_hashing_sha256, so
// a hash can move between a WarrenMQ configuration and a RabbitMQ definitions
// file. An empty password is an error, because it could never log in.
func HashPassword(password string) (string, error) {
	if password == "" {
		return "", errEmptyPassword
	}
	h := newHash(password)
	return base64.StdEncoding.EncodeToString(h[:]), nil
}

var errEmptyPassword = errors.New("the password is empty (an empty password can never log in)")

func newHash(password string) hash {
	var salt [saltBytes]byte
	rand.Read(salt[:]) // never fails: crypto/rand ends the process if the system has no randomness
	return saltedHash(salt, password)
}

func saltedHash(salt [saltBytes]byte, password string) hash {
	d := sha256.New()
	d.Write(salt[:])
	d.Write([]byte(password))
	var h hash
	copy(h[:], salt[:])
	d.Sum(h[saltBytes:saltBytes])
	return h
}

// parseHash reads the base64 form. The error never repeats the input, which may
// be a clear-text password put in the wrong place.
func parseHash(encoded string) (hash, error) {
	var h hash
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return h, errors.New("the password hash is not base64 (`warren hash-password` makes one)")
	}
	if len(raw) != len(h) {
		return h, fmt.Errorf("the password hash has %d bytes, want %d: base64 of a 4-byte salt and the SHA-256 of salt and password (`warren hash-password` makes one)", len(raw), len(h))
	}
	copy(h[:], raw)
	return h, nil
}

// matches compares in constant time. The empty password matches nothing, as in
// RabbitMQ's internal backend.
func (h hash) matches(password string) bool {
	got := saltedHash([saltBytes]byte(h[:saltBytes]), password)
	return subtle.ConstantTimeCompare(got[:], h[:]) == 1 && password != ""
}
