// Package downgrade remembers what each MX host proved, and notices when it
// proves less.
//
// Opportunistic TLS has no memory of its own: whoever strips STARTTLS from an
// EHLO reply, or shows a certificate of his own making, gets what he wants, and
// it looks like a host that never had better. This package remembers better.
//
// Deciding is pure (evidence.go). Evidence is what a host proved and when; a plan
// makes an Expectation of it; an outcome meets the expectation or not:
//
//	x := evidence.Expect(plan)
//	if !x.Met(outcome) { ... }
//
// What to do about it is the operator's Action. Log tells, and changes nothing.
// Defer settles it before anything is dialled: Expectation.Raise makes a stricter
// plan, which then is judged, in the handshake and in the pool, as any other.
//
// Only plans that are opportunistic have expectations: a stricter one says itself
// what it wants. Only what a connection really was is evidence, and evidence only
// adds up: a host that proves less does not make us forget that it proved more.
// It is forgotten with time (Config.Keep), by an operator (Forget), or when there
// are too many hosts; then those go first that proved something longest ago.
//
// Memory keeps evidence. Lookups are in memory; what changes is written behind, a
// few seconds later and at Close, so that no delivery waits for the disk, and a
// disk that fails costs a log line. A host that keeps proving the same is noted
// once an hour.
//
// The file is a journal, a line of text with a checksum for each change, and is
// now and then replaced by a shorter one in one step (file.go). That is all a few
// thousand hosts need that are looked up by name and fit into memory, and a crash
// can cost no more than the last seconds. A database would do as well, but bbolt
// locks its file for as long as the server runs, and then the commands that list
// and forget could not read it; SQLite would let them, at the price of a large
// dependency in the way of every delivery.
//
// Only the server writes the journal. Other processes read it, and ask it to forget
// with a small file beside it, which appears complete, is noticed within seconds,
// or when the server starts, and is removed when its wish is on disk (request.go).
// So no locks are needed, and whoever asks may be root: the server must own
// nothing but the directory.
package downgrade
