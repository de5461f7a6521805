// Package loadgen loads an AMQP 0-9-1 broker and measures what it does: rates,
// latencies, stalls, the processor time of both sides, and the broker's memory.
//
// Client is a connection that costs next to nothing: frames are built once, what
// comes back is scanned in place, and nothing is allocated per message. Run
// drives any number of them as publishers and consumers; Churn and Idle load a
// broker with connections instead of messages.
//
// A publisher writes in one of two ways. One write per publish and per ack is
// what common clients do, and shows what programs will see. Batched, with prebuilt
// frames and up to 64 KiB in one write, costs so little that it shows the broker.
//
// Latency counts from the moment at which a message was to be sent. With a rate
// that is the schedule, whether or not the publisher could keep it (so a broker
// that stops for a second does not hide the messages that would have come in that
// second); without one, the moment before the write.
//
// What must hold: a publish is registered as unconfirmed before it is written; a
// slot of the register is used again only after its confirm was seen; nothing is
// declared that is not deleted in the end, and nothing deleted that was there
// before.
//
// Each publisher has a goroutine that writes and one that reads, each consumer
// one for both. On Linux, if the broker is said to have OwnThreads, a publisher that
// is the only one has a single goroutine (drive), and its plain TCP connection is a
// socket of which the runtime knows nothing; so has a consumer that is the only one
// and does not poll. The runtime's part, which is the scheduler, its poller and its
// watchdog, is half of what a load takes as soon as a publisher waits for confirms.
// What is written and what is done with what comes is the same code for both; they
// differ in who waits, and how.
//
// Several connections always have goroutines, which take turns as separate clients
// do. One thread for all of them would read for all and then write for all, and so
// hand the broker batches that separate clients do not make: one that gains by
// batches would look faster than it is.
//
// Whoever drives them, they share counters with the goroutine that called Run, which
// samples them, and nothing else.
package loadgen
