package mtasts

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mjl-/mox/mtasts"
)

// version is how a record begins that counts (RFC 8461, 3.1); a semicolon
// follows, maybe after white space.
const version = "v=STSv1"

// maxRecord bounds the record that is kept to know it again. An honest one has
// some forty octets.
const maxRecord = 1024

var (
	errSeveral = errors.New("there are several records; senders must take that for none (RFC 8461, 3.1)")
	errTooLong = fmt.Errorf("the record has more than %d octets", maxRecord)
)

// pick returns the one record that counts, or "" if there is none.
func pick(texts []string) (record string, err error) {
	for _, text := range texts {
		rest, ok := strings.CutPrefix(text, version)
		if !ok || !strings.HasPrefix(strings.TrimLeft(rest, " \t"), ";") {
			continue
		}
		if record != "" {
			return "", errSeveral
		}
		record = text
	}
	if len(record) > maxRecord {
		return "", errTooLong
	}
	return record, nil
}

// recordID reads the id of a record.
func recordID(record string) (id string, err error) {
	defer func() {
		if failure := recover(); failure != nil {
			id, err = "", fmt.Errorf("the record cannot be read: %v", failure)
		}
	}()
	parsed, ours, err := mtasts.ParseRecord(record)
	switch {
	case err != nil:
		return "", err
	case !ours || !validID(parsed.ID):
		return "", errors.New("the record has no id")
	}
	return strings.Clone(parsed.ID), nil
}
