// Package mailtest holds the other side of outbound mail, for tests and for
// the demonstration command: a certificate authority that can do wrong, a DNS
// resolver and scripted MX hosts. All of them are real servers on loopback
// sockets; nothing is mocked inside the process, so that what is proved with
// them is proved about bytes on a wire.
//
//   - CA issues certificates with exactly one fault each (Kind): expired, for
//     another name, from an unknown authority, and so on.
//   - DNS answers like a validating recursive resolver, with an AD bit that can
//     be set per name, and fails in the ways resolvers fail: error codes,
//     silence, truncation, malformed packets.
//   - MX speaks SMTP with STARTTLS, PIPELINING and CHUNKING and misbehaves as
//     told by a Behaviour, at one named step of the dialogue. It records what
//     arrived in clear and what arrived under TLS, byte by byte, which is how a
//     test proves that a message never touched a socket in clear.
//   - STS is an HTTPS host of MTA-STS policies, which answers as each domain's
//     STSPage says and records what it was asked.
//   - NewMXs puts several MX hosts on different loopback addresses and one
//     common port, as MX hosts are in the world.
//
// The package does not import testing. Everything that is started is ended,
// with all goroutines and connections, by Close. Memory is bounded whatever a
// client sends.
package mailtest
