package events

import (
	"context"
	"fmt"
	"time"
)

// maxBuckets bounds a chart.
const maxBuckets = 2000

// maxHosts is how many MX hosts are named.
const maxHosts = 20

// Stats are the figures of a time.
type Stats struct {
	// Buckets are all of them, also those in which nothing happened.
	Buckets []Bucket `json:"buckets"`
	// Failures are by reason, most frequent first.
	Failures []Failures `json:"failures"`
	// Hosts are the MX hosts that got most deliveries without good TLS, with the
	// most of them first.
	Hosts []Host `json:"hosts"`
}

// Bucket is a part of the time. The first three are deliveries: over TLS with a
// verified certificate, over TLS without one, in clear.
type Bucket struct {
	Start      time.Time `json:"start"`
	Verified   int64     `json:"verified"`
	Unverified int64     `json:"unverified"`
	Plaintext  int64     `json:"plaintext"`
	Temporary  int64     `json:"temporary"` // failures, one for each attempt
	Permanent  int64     `json:"permanent"`
	Accepted   int64     `json:"accepted"`
}

// Failures is how often a reason occurred.
type Failures struct {
	Reason    string `json:"reason"`
	Temporary int64  `json:"temporary"`
	Permanent int64  `json:"permanent"`
}

// Host is how an MX host was delivered to.
type Host struct {
	Name       string `json:"mx-host"`
	Delivered  int64  `json:"delivered"`
	Unverified int64  `json:"unverified"`
	Plaintext  int64  `json:"plaintext"`
}

// Stats counts events from begin on and before end, in buckets that begin at
// multiples of bucket in UTC: an hour, a day. Domains are as in Query.
func (s *Store) Stats(ctx context.Context, begin, end time.Time, bucket time.Duration, domains []string) (Stats, error) {
	if bucket < time.Second || !begin.Before(end) {
		return Stats{}, fmt.Errorf("%w: expected a time that begins before it ends, in parts of a second at least", ErrFilter)
	}
	from := begin.UTC().Truncate(bucket)
	if end.Sub(from)/bucket >= maxBuckets {
		return Stats{}, fmt.Errorf("%w: more than %d parts of the time", ErrFilter, maxBuckets)
	}
	var st Stats
	for at := from; at.Before(end); at = at.Add(bucket) {
		st.Buckets = append(st.Buckets, Bucket{Start: at})
	}
	c := chart{s, begin, end, domains}
	if err := c.buckets(ctx, &st, bucket); err != nil {
		return Stats{}, err
	}
	if err := c.failures(ctx, &st); err != nil {
		return Stats{}, err
	}
	return st, c.hosts(ctx, &st)
}

// chart is what all parts of Stats are about.
type chart struct {
	*Store
	begin, end time.Time
	domains    []string
}

// where adds the condition: every event in question.
func (c *chart) where(b *builder) error {
	err := b.scope(c.domains)
	b.between(c.begin, c.end)
	return err
}

func (c *chart) buckets(ctx context.Context, st *Stats, bucket time.Duration) error {
	first := st.Buckets[0].Start.UnixMicro()
	b := c.Store.ask("SELECT (ts - ")
	b.arg(first)
	b.text(") / ")
	b.arg(bucket.Microseconds())
	b.text(", event, severity, tls, verified, count(*) FROM events WHERE ")
	if err := c.where(b); err != nil {
		return err
	}
	b.text(" GROUP BY 1, 2, 3, 4, 5")
	return c.each(ctx, b, func(scan func(...any) error) error {
		var part, n int64
		var event, severity string
		var tls, verified int8
		if err := scan(&part, &event, &severity, &tls, &verified, &n); err != nil {
			return err
		}
		if 0 <= part && part < int64(len(st.Buckets)) {
			st.Buckets[part].add(event, severity, tls, verified, n)
		}
		return nil
	})
}

func (b *Bucket) add(event, severity string, tls, verified int8, n int64) {
	switch {
	case event == EventAccepted:
		b.Accepted += n
	case event == "failed" && severity == "permanent":
		b.Permanent += n
	case event == "failed":
		b.Temporary += n
	case event != "delivered":
	case tls != 1:
		b.Plaintext += n
	case verified == 1:
		b.Verified += n
	default:
		b.Unverified += n
	}
}

func (c *chart) failures(ctx context.Context, st *Stats) error {
	b := c.ask("SELECT reason, sum(CASE severity WHEN 'permanent' THEN 1 ELSE 0 END), count(*) FROM events WHERE event = 'failed' AND ")
	if err := c.where(b); err != nil {
		return err
	}
	b.text(" GROUP BY reason ORDER BY 3 DESC, reason")
	return c.each(ctx, b, func(scan func(...any) error) error {
		var f Failures
		var n int64
		if err := scan(&f.Reason, &f.Permanent, &n); err != nil {
			return err
		}
		f.Temporary = n - f.Permanent
		st.Failures = append(st.Failures, f)
		return nil
	})
}

func (c *chart) hosts(ctx context.Context, st *Stats) error {
	b := c.ask("SELECT mx_host, count(*), sum(CASE WHEN tls = 1 AND verified <> 1 THEN 1 ELSE 0 END), " +
		"sum(CASE WHEN tls <> 1 THEN 1 ELSE 0 END), sum(CASE WHEN tls <> 1 OR verified <> 1 THEN 1 ELSE 0 END) " +
		"FROM events WHERE event = 'delivered' AND mx_host <> '' AND ")
	if err := c.where(b); err != nil {
		return err
	}
	b.text(" GROUP BY mx_host HAVING sum(CASE WHEN tls <> 1 OR verified <> 1 THEN 1 ELSE 0 END) > 0 ORDER BY 5 DESC, mx_host LIMIT ")
	b.arg(int64(maxHosts))
	return c.each(ctx, b, func(scan func(...any) error) error {
		var h Host
		var bad int64
		if err := scan(&h.Name, &h.Delivered, &h.Unverified, &h.Plaintext, &bad); err != nil {
			return err
		}
		st.Hosts = append(st.Hosts, h)
		return nil
	})
}
