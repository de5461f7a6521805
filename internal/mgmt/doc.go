// Package mgmt is RabbitMQ's management HTTP API over this broker: the same paths,
// parameters, field names and types, error bodies and status codes, so that
// clients, dashboards and scripts made for RabbitMQ read this broker too.
//
// It knows the broker through the interfaces in api.go only, which hand out
// snapshots: no request holds a lock while it sorts, formats or writes. A list is
// a list of handles; a row is made when its turn comes and thrown away after, so
// that the memory of a request grows with the number of objects by a few words
// each, and not with the size of the answer.
//
// Requests, their bodies and their number are bounded (Config), and every answer
// has a deadline. Handlers run on the goroutines of the HTTP server; nothing in
// the package is changed after New, but for a count of requests.
//
// One file is one resource. Source: RabbitMQ's "HTTP API Reference", and what
// RabbitMQ 4.3 answers (test/mgmt).
package mgmt
