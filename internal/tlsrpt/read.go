package tlsrpt

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Read returns the reports of one UTC day as they would be sent, by domain, and
// what became of them. It only reads, also while a server writes; what that has
// counted in the last two seconds is missing. A directory that does not exist has
// no reports.
func Read(dir string, s Sender, day time.Time) ([]Document, error) {
	name := day.UTC().Format(dayForm)
	salt, err := readSalt(dir)
	if err != nil {
		return nil, err
	}
	b, err := loadBatch(dir, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	var all []Document
	for domain, t := range b.day.domains {
		d, err := s.document(salt, name, domain, t)
		if err != nil {
			return nil, err
		}
		p := b.snapshot(domain)
		d.Told, d.Done = p.told, p.done
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b Document) int { return cmp.Compare(a.Domain, b.Domain) })
	return all, nil
}
