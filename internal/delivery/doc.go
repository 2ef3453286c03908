// Package delivery is the hall that every message walks through, in one
// direction, room by room:
//
//  1. Engine.Deliver takes a message with all its recipients. Fields that are
//     ours leave the header; what the message itself asks for is read from the
//     stamp, or from override fields where it has none (message.go).
//  2. Recipients are grouped by domain; each group is served in parallel with
//     the others and cannot touch them (deliver.go, group.go).
//  3. policy: what is wanted. Settings for this sender, this domain and this
//     message (Policies.Row, Policies.Decide).
//  4. route: where to. MX records and addresses (Routes), and beside them the
//     MTA-STS policy of the domain (STS).
//  5. tlsplan: what a connection must prove. tlsplan.Decide settles the plan for
//     the domain, Plan.ForHost the one for each host with the TLSA records that it
//     publishes (published.go), before anything is dialled.
//  6. health, pool: is there a place free at the host (host.go), what did it
//     prove before (memory.go), and is there a proved session? If not, dial.go
//     races for its addresses, leaving alone those that have not answered
//     lately (probe.go finds out whether they are back), and connect.go goes on
//     from there: the certificate is examined and judged inside the one
//     handshake.
//     A host that turns out to be this server is passed over (ourselves.go).
//  7. smtpwire: envelope and body cross the connection; every recipient gets
//     its own result (transact.go).
//  8. Results, from whatever room they come, become one Attempt a recipient
//     (conclude.go). Observers (log, metrics, event store, TLS reports) are
//     told; then, and only then, the status goes back to the caller.
//
// Engine.Explain walks the same way up to 6, and sends nothing (explain.go,
// look.go).
//
// Deciding happens in policy and tlsplan, which are pure. Fetching (3, 4) comes
// before it, acting (6, 7) after it. A failure anywhere is a value of type
// *Failure that knows its reason and whether it is permanent (failure.go).
//
// Rules kept here whatever happens: a recipient is reported delivered only
// after the final 2xx for it was read; every recipient handed in gets exactly
// one status, also after a panic or a cancelled context; what is taken from the
// limits and the pool is given back on every path.
package delivery
