//go:build !unix

package tlspolicy

import "context"

// lockDirectory does nothing where there is no flock: changes from the command
// line beside the server may then overtake each other.
func lockDirectory(context.Context, string) (unlock func(), err error) {
	return func() {}, nil
}
