//go:build race

package api

// raceEnabled tells that the race detector looks on.
const raceEnabled = true
