package apikey

import (
	"fmt"

	"tlscontrol/internal/policy"
)

// Role is what a key is for.
type Role string

// The roles. Whoever runs the relay decides what TLS a domain wants: only full
// keys change settings.
const (
	Sending Role = "sending" // sends mail of its domain, and does nothing else
	Reading Role = "reading" // also sees what became of mail of its domain, and its settings
	Full    Role = "full"    // everything, of all domains
)

// usualRole is that of a key that was made, and of a row that was written, without
// a word about it.
func usualRole(domain string) Role {
	if domain == "" {
		return Full
	}
	return Sending
}

// checkRole refuses a role that does not go with the domain. A full key of one
// domain, or a reading one of all, is a mistake of whoever wrote it: nobody knows
// which half was meant.
func checkRole(role Role, domain string) error {
	switch {
	case role != Sending && role != Reading && role != Full:
		return fmt.Errorf("role: unexpected %s, expected sending, reading or full", policy.Quote(string(role)))
	case domain == "" && role != Full:
		return fmt.Errorf("role: unexpected %s without a domain, expected full, or a domain", policy.Quote(string(role)))
	case domain != "" && role == Full:
		return fmt.Errorf("role: unexpected %s with a domain, expected sending or reading", policy.Quote(string(role)))
	}
	return nil
}
