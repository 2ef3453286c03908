// Package sink is the other side of the benchmarks: a mail server that does as
// little as a mail server can, and a resolver that knows a domain for every
// number. Package mailtest is for misbehaviour; this one is for speed.
//
// It runs in a process of its own, so that the processor time of the benchmark's
// process is the client's alone. Start runs it, by executing the test binary
// again, where Main must be called first; the two talk in lines over standard
// input and output. The process ends when its standard input does.
//
//   - Messages are accepted under TLS only, and discarded. Connections,
//     handshakes and messages are counted.
//   - A Service is one port with one set of properties: BDAT offered or not,
//     and how late the server's words arrive. Late words stay in order and do
//     not wait for each other, as on a long wire: what was said at one time
//     arrives at one time.
//   - The ports are open on all loopback addresses, which is how there can be a
//     new host for every message. Connections to other addresses are closed.
//   - One wildcard certificate serves all hosts. TLS sessions can be resumed.
package sink
