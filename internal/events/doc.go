// Package events keeps what happened to messages in a database, so that it can
// be asked for: the delivery-status documents of target.remote_tls, and what
// other parts add, such as the accepted events of the HTTP API.
//
// An event takes this way, and nothing on it holds a delivery up:
//
//  1. Concluded (or Add) puts the document into a bounded queue in memory
//     (queue.go). It never waits; what finds no room is lost and counted.
//  2. The writer appends what waits to a journal on disk, at once, and syncs it
//     five times a second (writer.go, package journal). From here on the event
//     survives a crash, and a database that is away.
//  3. The shipper takes documents out of the journal in order and inserts them,
//     up to 5000 at a time (shipper.go, sqlite.go with parts.go, postgres.go). Only
//     then does the journal forget them. While the database is away it tries again
//     for ever; the journal is bounded, what it cannot take is lost and counted.
//
// A document may come to the database twice, after a crash between commit and
// cursor. Its time and id are the same then, and the second one is passed over.
// A journal that cannot be written (a full disk) is passed over too: documents
// go to the database out of memory, and are safe from nothing on the way.
//
// Rows are the document, byte for byte, and columns that repeat what it can be
// asked for by, in one form of letter case (event.go). Questions are values
// (Query, Filter); what they hold becomes parameters of statements whose text
// depends on nothing else (builder.go). Pages go from a place on, a Cursor, and
// not from a number of rows on, so that what comes in meanwhile moves nothing.
//
// What the form of a message said stands in its accepted events only. Deliveries are
// found by it because their columns have it, too, and tell it because it is added
// to their documents when they are read (said.go).
package events
