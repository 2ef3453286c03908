// Package health remembers how MX hosts and their addresses fare, so that
// those in trouble neither hold deliveries up nor are troubled further. It has
// two parts that know nothing of each other:
//
//   - Breakers, by address: an address that keeps failing to answer is not
//     dialled again for a while (breakers.go). It is asked before each dial.
//   - Places, by host name: only so many sessions with a host are busy at once,
//     and fewer while the host says that we are too many (places.go, rate.go).
//     A place is taken before a session is, be it idle or yet to be dialled.
//
// Both are memory and arithmetic only. They dial nothing, judge no error, read
// no reply and start no goroutine: the caller says what happened. What they
// hand out, a Dial or a Place, is given back with a deferred call that may
// come twice, so that neither an early return nor a panic keeps it.
//
// What they remember is bounded, and a host that is well costs nothing: an
// address is forgotten when it answers, a host when nothing is busy or waiting
// there and its limit is whole.
package health
