// Package tlsrpt reports to recipient domains how TLS went with them, if they
// ask for it (RFC 8460). Four steps lead from a connection to a report:
//
//  1. Record takes one Session, after the facts are known (session.go), and
//     adds it to counts in memory. It does no I/O and never waits for any.
//  2. Every two seconds, and at Close, the counts are appended to the file of the
//     UTC day and synced (collect.go, journal.go). What was lost, because the
//     disk is full or too much came at once, costs report data and a line in the
//     log, never a message.
//  3. When the day is over, the file is added up into one document for each
//     domain (day.go, report.go). Each domain's turn comes at a random time in
//     the first four hours (send.go).
//  4. Then the TXT record _smtp._tls.<domain> is looked up (record.go). Where
//     there is one, the document goes to each address of it by mail (mail.go) or
//     HTTPS (post.go). What has been sent is kept on disk (progress.go).
//
// # Why files and not a database
//
// The counts are deltas, one JSON object a line: adding them up gives the day.
// Appending is the only way in which a file changes, besides being replaced
// whole when it has grown too long. So a crash can cost at most the last line,
// which a reader recognises and passes over. And another process can read the
// files at any time, which a database that is locked by the server does not
// allow: "maddy tls reports" does. Old days are files to delete.
//
// A file that is not one of ours by its first line, is renamed aside.
//
// # Neither lost nor doubled
//
// Before a report goes out, the attempt and the time of the next one are
// written down; afterwards, that it was sent. Only a crash between sending and
// writing that down sends a report again, with the same Report-ID, by which
// recipients recognise it (RFC 8460, section 5.3).
//
// # Several relays
//
// Relays that report for one submitter may have one PostgreSQL (shared.go). Each
// still counts in its own files, so that neither a message nor a count ever waits
// for the database; a file then is a spool, which is brought over and removed
// (upload.go, rows.go). What says when a day is complete (relays.go), which
// attempt is whose, and what has been sent, is in tables instead of a progress
// file. Both are a ledger (ledger.go), and all that is done with what is due is
// the same.
//
// # Loops
//
// A report is mail, and to send it may itself fail over TLS. RFC 8460, section 3
// says that such a session should not be in the next report, else two domains
// with broken TLS would write to each other about nothing but their reports for
// ever. So sessions that carry reports, ours or others', are not counted.
package tlsrpt
