//go:build !linux

package sink

import (
	"errors"
	"net/netip"
)

// deadHost is not there: how to make an address that does not answer differs
// too much between systems.
func deadHost(netip.AddrPort) error { return errors.ErrUnsupported }
