// Package api is the HTTP API: it takes messages, shows and changes the TLS
// settings of sending domains, and answers questions about events. Paths, forms
// and answers are those that Mailgun documents and its client libraries use, so
// that they work after a change of the base URL.
//
// A request takes this way:
//
//  0. A Crowd (crowd.go) lets the connection in, and bounds how many there are and
//     what strangers send on them.
//  1. find (router.go) tells the route by method and path.
//  2. guard (limits.go) bounds how many are served at a time, recovers panics and
//     answers for what fails.
//  3. authenticate (auth.go) asks Keys who is calling, and holds back addresses
//     that try keys. A budget (budget.go) holds back keys that ask too often, or
//     for too much at a time. The connection stays from here on.
//  4. admit (auth.go) refuses domains that a key, or the API, is not for. To a key
//     of one domain there are no others (own.go). Nothing of the body has been read
//     up to here.
//  5. The handler takes the memory that a message will need (memory.go), reads the
//     form (form.go) within its limits and does its work: messages.go (compose.go
//     and tree.go make a message of a form, adopt.go takes one that is ready made, options.go
//     says what counts), connection.go, domains.go, events.go.
//
// The page for people asks the same handlers, with a session in place of a key
// (ui.go, session.go, uidata.go); its files are in internal/ui.
//
// Who knows the answers is not here: Mail, Domains, Keys and Events are
// interfaces. module/httpapi implements them with maddy's parts.
//
// Rules kept here whatever comes in: a parameter that is not understood is
// refused by name and never ignored, except the one that every client may send
// to have its JSON indented; what is refused is refused whole; nothing of a
// request gets into a header without having been looked at for line breaks; no
// answer and no log line holds a key.
package api
