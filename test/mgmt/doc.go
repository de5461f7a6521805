// Package mgmt compares the management API with RabbitMQ's.
//
// Build makes one scene on a broker: exchanges, queues, bindings, connections,
// consumers, messages. Requests are asked of it, and each answer is reduced to
// what must be the same on every broker (Reduce): its status, the names and types
// of all fields, and the values of those that the scene decides. The program in
// record asks a real RabbitMQ and writes testdata/recorded; the test asks the
// embedded broker and compares. What differs on purpose stands in deviations.txt,
// with the reason.
package mgmt
