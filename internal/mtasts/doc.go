// Package mtasts knows which domains demand verified TLS of those who send them
// mail, by MTA-STS (RFC 8461).
//
// A domain that takes part publishes two things: a TXT record at
// _mta-sts.DOMAIN, which says that there is a policy and has an id that changes
// with it, and the policy, a small text at
// https://mta-sts.DOMAIN/.well-known/mta-sts.txt. DNS can be forged and the TXT
// record is only a hint; the policy is authenticated by the certificate of its
// host. Whoever can forge DNS can hide both from somebody who asks for the first
// time, and that is all: a policy once fetched is in force until it expires,
// whatever DNS says. So a cache that forgets nothing early is what the security
// of MTA-STS is made of, and most of this package:
//
//  1. Cache.Lookup takes what is remembered of a domain (table.go) and asks for
//     the TXT record, which the resolver answers from its own cache for the
//     record's TTL. A policy that was fetched for the id in the record is the
//     answer: nothing was asked, read or written (cache.go, record.go).
//  2. Another id, or no policy yet, makes it fetch: once for all who wait, not
//     too often, not too many at a time, and for all of them even if the one who
//     began gives up (flight.go).
//  3. fetch gets the policy over HTTPS and trusts nothing that it is told: where
//     the host is (address.go), how long the answer is, what it claims to be
//     (fetch.go). Policies are parsed by github.com/mjl-/mox/mtasts (policy.go).
//  4. A policy goes to the table and, by way of a goroutine of its own, to disk
//     (writer.go, file.go), from where New reads it after a restart (load.go).
//  5. Policies of domains that mail goes to are fetched again once a day, so that
//     who blocks the policy host has to block it for the whole lifetime of a
//     policy without being noticed (upkeep.go).
//
// What goes wrong never makes a policy weaker: with a valid policy at hand, a
// failure of DNS, of the policy host or of the disk changes nothing but what is
// logged and reported. Without one, mail goes as if the domain had none, as
// RFC 8461, section 3.3 demands, and Result.Err says why. A policy that is on disk
// and cannot be read is not none: Result.Unread says so, and mail waits (unread.go).
package mtasts
