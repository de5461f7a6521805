// Package cli is the command line: warren serve, the commands that look into data
// directories, the client commands that work against any AMQP 0-9-1 broker, and
// what they share (connecting, one message a line, JSON lines, errors of one line).
//
// Run is the whole of it and may be called several times in one process, from
// tests too: it takes its streams as arguments and returns the exit status. Only
// this package and cmd/warren read the environment; cmd/warren alone handles
// signals and ends the process, the commands see a context.
//
// Exit status: 0 done, 1 it failed, 2 the command line or the
// configuration is wrong, or there is nothing to look at (check, dump, salvage,
// topology verify, doctor), 3 the queue was empty (get, dlq show). Data goes to stdout, everything said about it to stderr.
// Passwords are never printed: an address is shown without its password, and a
// URL that cannot be understood is not shown at all.
package cli
