//go:build race

package tests

// raceEnabled tells that the process under test is to be built with the race
// detector too.
const raceEnabled = true
