// Package route answers where mail for a domain goes: which MX hosts, in which
// order (RFC 5321, 5.1), at which addresses, and whether the answers were
// authenticated with DNSSEC.
//
//  1. Resolver.Route asks for the MX records of a domain and yields a Route: the
//     hosts in the order to try them. Without MX records the domain is its own
//     host (implicit MX); a null MX (RFC 7505) refuses mail.
//  2. WithoutSelf takes ourselves, and what is no better than ourselves, out of
//     the list, so that mail does not run in circles.
//  3. Resolver.Addresses yields the addresses of one host.
//  4. Resolver.HostTLSA yields the TLSA records that count for it (RFC 7672).
//
// Resolver.TXT reads what a domain publishes about its mail in TXT records.
//
// Two things decide whether mail is bounced, kept or weakened, and both are
// settled here. First, an *Error tells what is known not to exist (NotFound,
// NullMX) from what could not be found out (Temporary) or is a mistake of the
// domain's owner that may be mended (NoUsable); nothing that can be caused by a
// resolver in trouble is ever permanent. Second, Authentic is true only where
// the resolver set the AD bit on every answer used, aliases and denials
// included, and where that resolver is on loopback: from farther away the bit
// could have been set by anybody on the path (RFC 7672, 2.1.1; RFC 6840, 5.7).
//
// Names that come from DNS are hostile until they pass hostName: Host.Name holds
// letters, digits, hyphens, underscores and dots only, in lower case.
//
// A question passes four places, each of which is the only one of its kind:
//
//  1. Resolver.inquire answers from the cache (cache.go), or joins those who wait
//     for the same answer already.
//  2. Resolver.fly asks for all of them at once, with a deadline of its own, and
//     remembers the answer, the evidence included, for as long as it may be
//     believed (flight.go).
//  3. Resolver.follow follows aliases (lookup.go).
//  4. Resolver.exchange lets questions out of the process, to one server or, if
//     that one is silent for a moment, to several (race.go, exchange.go). Questions to a
//     server on loopback share a socket (line.go). Which server comes first depends on who failed recently (health.go).
package route
