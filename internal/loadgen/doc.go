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
// one for both. On Linux, if the broker is said to have OwnThreads, two loops take
// their place for plain TCP connections: a goroutine that drives all publishers and
// one that drives all consumers, which tell the scheduler nothing of their system
// calls. With goroutines, half of what a load takes is the scheduler, its poller and
// its watchdog, as soon as publishers wait for confirms. What is written and what is
// done with what comes is the same code for both (publisher.step and read,
// consumer.step); they differ in who waits, and how.
//
// Whoever drives them, they share counters with the goroutine that called Run, which
// samples them, and nothing else.
package loadgen
