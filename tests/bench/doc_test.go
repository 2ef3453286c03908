// Package bench measures target.remote_tls against maddy's target.remote and a
// raw lower bound: the least code that can hand the message over, with no
// policy, no DNS and no log. All three run in one process, with one sink, one
// authority and one way of counting, one after the other, so that their ratios
// mean something where the figures alone do not.
//
// docs/performance.md tells how to run it, what the columns mean and what came
// out. Without -bench there is a short test that mail arrives each way.
package bench
