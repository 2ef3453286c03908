package tlsrpt

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Read returns the reports of one UTC day as they would be sent, by domain. It
// only reads, also while a server writes; what that has counted in the last two
// seconds is missing. A directory that does not exist has no reports.
func Read(dir string, s Sender, day time.Time) ([]Document, error) {
	name := day.UTC().Format(dayForm)
	salt, err := readSalt(dir)
	if err != nil {
		return nil, err
	}
	d, err := loadDay(dir, name)
	if errors.Is(err, errForeign) {
		return nil, fmt.Errorf("%s: %w", countsPath(dir, name), err)
	}
	if err != nil {
		return nil, err
	}
	var all []Document
	for domain, t := range d.domains {
		doc, err := s.document(salt, name, domain, t)
		if err != nil {
			return nil, err
		}
		all = append(all, doc)
	}
	slices.SortFunc(all, func(a, b Document) int { return cmp.Compare(a.Domain, b.Domain) })
	return all, nil
}
