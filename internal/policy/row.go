package policy

import (
	"fmt"
	"strings"
)

// maxRow bounds a table row; all settings in their longest form take about 150
// bytes.
const maxRow = 1024

// ParseRow reads one row of the `domains` table: words of the form key=value,
// separated by white space, as in
//
//	require_tls=yes skip_verification=no on_failure=reject opportunistic_fallback=unverified message_override=tighten
//
// Settings that are not named are silent. A row that cannot be read whole is an
// error: unknown or repeated key, bad value, a word without '=', nothing at
// all, more than 1 KiB. Half a policy is never returned.
func ParseRow(s string) (Block, error) {
	if len(s) > maxRow {
		return Block{}, fmt.Errorf("longer than %d bytes", maxRow)
	}
	words := strings.Fields(s)
	if len(words) == 0 {
		return Block{}, fmt.Errorf("empty row, expected key=value words")
	}
	var b Block
	seen := make(map[string]bool)
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			return Block{}, fmt.Errorf("unexpected %s, expected key=value", Quote(word))
		}
		if seen[key] {
			return Block{}, fmt.Errorf("%s is set twice", Quote(key))
		}
		seen[key] = true
		if err := b.Set(key, value); err != nil {
			return Block{}, err
		}
	}
	return b, nil
}

// Row returns the block as a row that ParseRow reads, "" if it is silent.
func (b Block) Row() string {
	var words []string
	for _, name := range SettingNames() {
		if value := b.Get(name); value != "" {
			words = append(words, name+"="+value)
		}
	}
	return strings.Join(words, " ")
}

// Get returns the value of the setting called name as it is written, "" if the
// block is silent about it.
func (b Block) Get(name string) string {
	sw := func(s Switch) string {
		if s == Unset {
			return ""
		}
		return s.String()
	}
	switch name {
	case "require_tls":
		return sw(b.RequireTLS)
	case "skip_verification":
		return sw(b.SkipVerification)
	case "on_failure":
		return string(b.OnFailure)
	case "opportunistic_fallback":
		return string(b.Fallback)
	case "message_override":
		return string(b.MessageOverride)
	}
	return ""
}

// Clear makes the block silent about the setting called name. Unknown names are
// errors, as for Set.
func (b *Block) Clear(name string) error {
	switch name {
	case "require_tls":
		b.RequireTLS = Unset
	case "skip_verification":
		b.SkipVerification = Unset
	case "on_failure":
		b.OnFailure = ""
	case "opportunistic_fallback":
		b.Fallback = ""
	case "message_override":
		b.MessageOverride = ""
	default:
		return unknownSetting(name)
	}
	return nil
}

func unknownSetting(name string) error {
	return fmt.Errorf("unexpected %s, expected one of %s", Quote(name), strings.Join(SettingNames(), ", "))
}

// SettingNames lists the settings that a Block can hold, as they are written in
// the configuration and in table rows.
func SettingNames() []string {
	return []string{"require_tls", "skip_verification", "on_failure", "opportunistic_fallback", "message_override"}
}

// Set gives the setting called name a value. Unknown names and values are
// errors that name the word and the choices.
func (b *Block) Set(name, value string) error {
	var err error
	switch name {
	case "require_tls":
		b.RequireTLS, err = ParseSwitch(value)
	case "skip_verification":
		b.SkipVerification, err = ParseSwitch(value)
	case "on_failure":
		b.OnFailure, err = ParseOnFailure(value)
	case "opportunistic_fallback":
		b.Fallback, err = ParseFallback(value)
	case "message_override":
		b.MessageOverride, err = ParseAdmission(value)
	default:
		return unknownSetting(name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
