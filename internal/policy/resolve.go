package policy

import (
	"maps"
	"slices"
)

// Policy is a whole tls_policy block. It is filled once and may then be read by
// any number of goroutines. The zero value says nothing: the built-in settings
// apply.
type Policy struct {
	// Top holds the settings written at the top of the block.
	Top Block

	domains      matcher
	destinations matcher
}

// AddDomain adds what a `domain` block says about sending domains. The pattern
// is a domain name, or *.name for every domain below name but not name itself.
// A pattern that is neither, or that is already there, is an error.
func (p *Policy) AddDomain(pattern string, b Block) error {
	return p.domains.add(pattern, b)
}

// AddDestination adds what a `destination` block says about recipients'
// domains. Patterns and errors are those of AddDomain.
func (p *Policy) AddDestination(pattern string, b Block) error {
	return p.destinations.add(pattern, b)
}

// HasDomain reports whether some `domain` block matches the sending domain, so
// that the table must not be asked about it.
func (p *Policy) HasDomain(domain string) bool {
	return len(p.domains.find(domain)) > 0
}

// DomainPlace returns where the `domain` block stands that matches the sending
// domain best, "" if none does. Its other settings may come from blocks that
// match less well.
func (p *Policy) DomainPlace(domain string) string {
	if blocks := p.domains.find(domain); len(blocks) > 0 {
		return blocks[0].Place
	}
	return ""
}

// DomainPatterns returns the patterns of all `domain` blocks, normalised and
// sorted.
func (p *Policy) DomainPatterns() []string {
	patterns := slices.Collect(maps.Keys(p.domains.exact))
	for name := range p.domains.below {
		patterns = append(patterns, "*."+name)
	}
	slices.Sort(patterns)
	return patterns
}

// Source names the kind of place that decided a setting. It goes into logs as
// it is.
type Source string

// The sources. FromDefault covers both the top of the block and what is built
// in; the place tells them apart.
const (
	FromMessage     Source = "message"
	FromDestination Source = "destination"
	FromDomain      Source = "domain"
	FromTable       Source = "table"
	FromDefault     Source = "default"
)

// Question asks for the settings of one message to one recipient's domain.
type Question struct {
	SendingDomain string   // domain of MAIL FROM; "" for the null sender
	Destination   string   // domain of RCPT TO
	Override      Override // what the message asks for
	// Row is the sending domain's row of the `domains` table, nil if it has
	// none. It is ignored for the null sender and where a `domain` block
	// matches.
	Row *Block
}

// Settings are resolved settings. Each has the source that decided it and its
// place: what Block.Place said there, "" for a message and for what is built in.
type Settings struct {
	RequireTLS       bool
	RequireTLSSource Source
	RequireTLSPlace  string

	SkipVerification       bool
	SkipVerificationSource Source
	SkipVerificationPlace  string

	OnFailure       OnFailure
	OnFailureSource Source
	OnFailurePlace  string

	Fallback       Fallback
	FallbackSource Source
	FallbackPlace  string

	MessageOverride       Admission
	MessageOverrideSource Source
	MessageOverridePlace  string

	// Refused is the part of the message's override that MessageOverride did
	// not admit.
	Refused Override
}

// builtIn is the last layer: it is silent on nothing.
var builtIn = Block{
	RequireTLS:       No,
	SkipVerification: No,
	OnFailure:        Defer,
	Fallback:         Plaintext,
	MessageOverride:  AdmitAny,
}

// layer is one place that may speak.
type layer struct {
	Block
	source Source
}

// Resolve answers the question. It is pure, and safe for concurrent use once
// the policy is complete.
func (p *Policy) Resolve(q Question) Settings {
	var (
		few    [8]layer // room for most policies
		all    = p.layers(append(few[:0], layer{source: FromMessage}), q)
		layers = all[1:] // those that have a say in what the message may ask for
		s      Settings
	)

	s.MessageOverride, s.MessageOverrideSource, s.MessageOverridePlace =
		first(layers, func(b *Block) Admission { return b.MessageOverride })
	s.OnFailure, s.OnFailureSource, s.OnFailurePlace =
		first(layers, func(b *Block) OnFailure { return b.OnFailure })
	s.Fallback, s.FallbackSource, s.FallbackPlace =
		first(layers, func(b *Block) Fallback { return b.Fallback })

	// The message speaks first about what it may speak about.
	admitted := admit(q.Override, s.MessageOverride)
	if admitted.RequireTLS != q.Override.RequireTLS {
		s.Refused.RequireTLS = q.Override.RequireTLS
	}
	if admitted.SkipVerification != q.Override.SkipVerification {
		s.Refused.SkipVerification = q.Override.SkipVerification
	}
	all[0].RequireTLS, all[0].SkipVerification = admitted.RequireTLS, admitted.SkipVerification

	var require, skip Switch
	require, s.RequireTLSSource, s.RequireTLSPlace =
		first(all, func(b *Block) Switch { return b.RequireTLS })
	skip, s.SkipVerificationSource, s.SkipVerificationPlace =
		first(all, func(b *Block) Switch { return b.SkipVerification })
	s.RequireTLS = require == Yes
	s.SkipVerification = skip == Yes
	return s
}

// layers appends the places 2 to 5 of the package comment in the order they are
// asked.
func (p *Policy) layers(list []layer, q Question) []layer {
	for _, b := range p.destinations.find(q.Destination) {
		list = append(list, layer{b, FromDestination})
	}
	if q.SendingDomain != "" {
		blocks := p.domains.find(q.SendingDomain)
		for _, b := range blocks {
			list = append(list, layer{b, FromDomain})
		}
		if len(blocks) == 0 && q.Row != nil {
			list = append(list, layer{*q.Row, FromTable})
		}
	}
	return append(list, layer{p.Top, FromDefault}, layer{builtIn, FromDefault})
}

// first returns what the first layer that is not silent says. The built-in
// layer ends every list and always speaks.
func first[T comparable](layers []layer, setting func(*Block) T) (value T, source Source, place string) {
	var silent T
	for i := range layers {
		l := &layers[i]
		if v := setting(&l.Block); v != silent {
			return v, l.source, l.Place
		}
	}
	return silent, FromDefault, ""
}

// admit returns the part of an override that the admission lets through. A word
// it does not know admits nothing.
func admit(o Override, a Admission) Override {
	switch a {
	case AdmitAny:
		return o
	case AdmitTighten:
		return tightening(o)
	}
	return Override{}
}

// tightening keeps of an override only what can make delivery stricter.
func tightening(o Override) Override {
	if o.RequireTLS != Yes {
		o.RequireTLS = Unset
	}
	if o.SkipVerification != No {
		o.SkipVerification = Unset
	}
	return o
}
