// Package message is what the broker knows about one message: its stored form
// (Record), the frames that deliver it, the extra routing keys in its CC and BCC
// headers, and the account of its deaths (x-death).
//
// It is pure and works on bytes that the caller owns. Nothing is decoded that a
// feature does not need: the common delivery copies frames and patches numbers.
package message
