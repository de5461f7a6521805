// Package parity compares brokers by behaviour: small text scripts of client
// actions (scripts/*.txt) are played against a broker over raw sockets, and what
// comes back is written down as a transcript. A real RabbitMQ's transcripts are
// recorded and committed (testdata/recorded/<version>); the test replays every
// script against this project's broker and compares.
//
// # Scripts
//
// One step a line; # starts a comment line. A step begins with where it happens: a letter
// for the connection and, for methods, the channel's number: "a", "a1", "b0".
//
//	a connect [user= password= vhost= ...]    TCP, handshake; see connectOptions
//	a1 queue.declare queue=~q durable=true    a method; waits for its reply if it has one
//	a1 send queue.declare queue=~q            a method; does not wait
//	a1 publish routing-key=~q body=hi expiration=50   method, header and body frames
//	a1 header body-size=5 [class=60] [property=...]   one content header frame
//	a1 body "hello"                           one content body frame
//	a1 wait basic.deliver 2                   until two have come (a close or the end ends any wait)
//	a1 confirms 5                             until tags 1..5 are confirmed; how acks were batched is not recorded
//	a1 sync                                   a round trip that is not recorded
//	a1 quiet 50ms [sorted]                    records whatever comes within that time
//	a1 count ~q messages=2 consumers=0        asks until both numbers are there
//	a1 gone queue=~q | exchange=~x            asks until it does not exist
//	a1 reopen                                 channel.open if the server has closed the channel
//	a tcp | a raw "AMQP\x00" | a frame 1 0 "payload" [end=0xff] [size=9] | a drop
//
// "~" in any string is a prefix unique to the run, written back as "~" in the
// transcript. "=> $name:field" after a step keeps a field of the last thing
// received, and $name in a later string puts it in. Values in tables carry their
// wire tag unless they are strings, booleans or 32-bit integers ('I'):
// {a: "text", b: 5, c: l:5, d: [1, 2], e: {f: true}, g: V, h: T:1700000000}.
//
// What arrives belongs to the connection and channel it arrived on, and is written
// under the step that waited for it, so a transcript does not depend on timing as
// long as the script waits for what it causes. Server-made names, recent
// timestamps and what identifies a product are masked.
//
// # Adding a script
//
// Write it, record it on both versions, read the transcripts, run the tests:
//
//	go run ./test/parity/record --only NAME --url URL --out test/parity/testdata/recorded/VERSION
//
// If this project's broker is meant to do otherwise, give the reason in deviations.txt and
// record what it does (warren serve) with --out test/parity/testdata/deviations.
//
// One goroutine runs a script; each of its connections has one reader goroutine.
package parity
