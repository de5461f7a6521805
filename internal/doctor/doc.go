// Package doctor finds the classic mistakes on a live broker: settings and states
// with which messages are lost, handled twice, or stand still. It is what warren
// doctor does.
//
// Look reads what a management API shows, twice, and Examine finds out of the two
// what is wrong: a pure function, one check after the other. Without such an API
// LookOverAMQP sees little (lengths and consumers of queues that are named), and the
// report says what nobody could look at.
//
// A check reports what is, and not what might be elsewhere. Where a broker shows
// only a sign of a mistake, the finding is a Suspicion.
//
// Nothing is changed on the broker, but for sampling (Sample), which takes messages
// and gives them back. Nothing here has state; everything is called by one goroutine.
package doctor
