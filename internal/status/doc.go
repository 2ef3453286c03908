// Package status writes the delivery-status documents: for each attempt to
// deliver to one recipient one line of JSON that says how it went, how the
// connection was protected, and who had decided what it must be.
//
// An attempt becomes a line in three steps:
//
//  1. A Builder turns the delivery.Attempt into a Document. What is unknown is
//     left out. Every string that comes from outside is made valid UTF-8 and
//     cut.
//  2. Append encodes the document. Whatever does not print is escaped, so no
//     text of a remote side can break the line, forge a field, or talk to the
//     terminal of whoever reads the log.
//  3. Log, a delivery.Observer, hands the line to its outputs.
//
// The rules of step 3 pull in two directions. The line must be written before
// the queue is told, so that no delivery is missing from the log after a
// crash; and no output may hold a delivery back. So each output belongs to one
// goroutine, a lane. Concluded gives the line to every lane and waits until
// all have written it, but no longer than patience. From then on an output
// that did not keep up is late: lines for it gather in a bounded buffer and
// nobody waits until it moves again. Lines that are waiting together are
// written together. What finds no room, or cannot be written, is lost and
// counted; the first loss is reported at once, later ones once a minute.
//
// A document is written for every recipient of a busy relay: steps 1 and 2
// allocate nothing in the usual case, step 3 one channel for all lines that are
// written together. bench_test.go has the benchmarks.
//
// A new field of the document is declared in document.go, filled in by Build,
// written in encode_document.go, and described in the two files named below.
//
// The document is described in docs/delivery-log.md and, for machines, in
// docs/delivery-status.schema.json.
package status
