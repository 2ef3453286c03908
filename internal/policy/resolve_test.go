package policy

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The cases are written as an operator would tell them: these blocks, this
// message, therefore these settings. Only what a case is about is compared.
func TestResolve(t *testing.T) {
	t.Parallel()
	type blocks map[string]Block
	tests := []struct {
		name         string
		top          Block
		domains      blocks
		destinations blocks
		question     Question
		want         string
	}{
		{
			name: "nothing said: built in",
			want: "require_tls=no/default skip_verification=no/default on_failure=defer/default " +
				"fallback=plaintext/default message_override=any/default",
		},
		{
			name: "the top of the block",
			top: Block{RequireTLS: Yes, SkipVerification: Yes, OnFailure: Reject, Fallback: Unverified,
				MessageOverride: AdmitNone, Place: "conf:1"},
			want: "require_tls=yes/default@conf:1 skip_verification=yes/default@conf:1 on_failure=reject/default@conf:1 " +
				"fallback=unverified/default@conf:1 message_override=none/default@conf:1",
		},
		{
			name:     "a message may loosen by default",
			domains:  blocks{"example.com": {RequireTLS: Yes, SkipVerification: No}},
			question: Question{SendingDomain: "example.com", Override: Override{No, Yes}},
			want: "require_tls=no/message skip_verification=yes/message on_failure=defer/default " +
				"fallback=plaintext/default message_override=any/default",
		},
		{
			name:     "tighten refuses what loosens, setting by setting",
			domains:  blocks{"example.com": {RequireTLS: Yes, MessageOverride: AdmitTighten, Place: "conf:3"}},
			question: Question{SendingDomain: "example.com", Override: Override{No, No}},
			want: "require_tls=yes/domain@conf:3 skip_verification=no/message on_failure=defer/default " +
				"fallback=plaintext/default message_override=tighten/domain@conf:3 refused=no,unset",
		},
		{
			name:     "tighten does not even admit no where the settings say no",
			top:      Block{MessageOverride: AdmitTighten, SkipVerification: Yes, Place: "conf:1"},
			question: Question{Override: Override{No, Yes}},
			want: "require_tls=no/default skip_verification=yes/default@conf:1 on_failure=defer/default " +
				"fallback=plaintext/default message_override=tighten/default@conf:1 refused=no,yes",
		},
		{
			name:     "none",
			top:      Block{MessageOverride: AdmitNone, Place: "conf:1"},
			question: Question{Override: Override{Yes, No}},
			want: "require_tls=no/default skip_verification=no/default on_failure=defer/default " +
				"fallback=plaintext/default message_override=none/default@conf:1 refused=yes,no",
		},
		{
			name:         "the destination may settle message_override",
			top:          Block{MessageOverride: AdmitAny, Place: "conf:1"},
			destinations: blocks{"bank.example": {MessageOverride: AdmitNone, Place: "conf:5"}},
			question:     Question{Destination: "bank.example", Override: Override{No, Unset}},
			want: "require_tls=no/default skip_verification=no/default on_failure=defer/default " +
				"fallback=plaintext/default message_override=none/destination@conf:5 refused=no,unset",
		},
		{
			name:         "destination before domain before top, each setting on its own",
			top:          Block{OnFailure: Reject, Fallback: Unverified, RequireTLS: No, Place: "top"},
			domains:      blocks{"example.com": {RequireTLS: Yes, OnFailure: Defer, Place: "dom"}},
			destinations: blocks{"partner.example": {SkipVerification: Yes, Place: "dest"}},
			question:     Question{SendingDomain: "example.com", Destination: "partner.example"},
			want: "require_tls=yes/domain@dom skip_verification=yes/destination@dest on_failure=defer/domain@dom " +
				"fallback=unverified/default@top message_override=any/default",
		},
		{
			name:     "the row counts where no block matches",
			domains:  blocks{"example.org": {RequireTLS: No}},
			question: Question{SendingDomain: "example.com", Row: &Block{RequireTLS: Yes, Place: "row"}},
			want: "require_tls=yes/table@row skip_verification=no/default on_failure=defer/default " +
				"fallback=plaintext/default message_override=any/default",
		},
		{
			name:     "a block shuts the row out even where it is silent",
			domains:  blocks{"example.com": {OnFailure: Reject, Place: "dom"}},
			question: Question{SendingDomain: "example.com", Row: &Block{RequireTLS: Yes, Place: "row"}},
			want: "require_tls=no/default skip_verification=no/default on_failure=reject/domain@dom " +
				"fallback=plaintext/default message_override=any/default",
		},
		{
			name:     "a row may settle message_override",
			question: Question{SendingDomain: "example.com", Override: Override{No, Unset}, Row: &Block{RequireTLS: Yes, MessageOverride: AdmitTighten, Place: "row"}},
			want: "require_tls=yes/table@row skip_verification=no/default on_failure=defer/default " +
				"fallback=plaintext/default message_override=tighten/table@row refused=no,unset",
		},
		{
			name:     "the null sender has no sending domain, thus neither block nor row",
			domains:  blocks{"example.com": {RequireTLS: Yes}},
			question: Question{Row: &Block{RequireTLS: Yes}, Destination: "example.net"},
			want: "require_tls=no/default skip_verification=no/default on_failure=defer/default " +
				"fallback=plaintext/default message_override=any/default",
		},
		{
			name: "the longest match wins, the next shorter is asked where it is silent",
			domains: blocks{
				"a.b.example.com":   {RequireTLS: Yes, Place: "exact"},
				"*.b.example.com":   {RequireTLS: No, SkipVerification: Yes, Place: "long"},
				"*.example.com":     {SkipVerification: No, OnFailure: Reject, Place: "short"},
				"*.com":             {OnFailure: Defer, Fallback: Unverified, Place: "shortest"},
				"*.a.b.example.com": {MessageOverride: AdmitNone, Place: "below"},
				"b.example.com":     {MessageOverride: AdmitNone, Place: "parent"},
			},
			question: Question{SendingDomain: "a.b.example.com"},
			want: "require_tls=yes/domain@exact skip_verification=yes/domain@long on_failure=reject/domain@short " +
				"fallback=unverified/domain@shortest message_override=any/default",
		},
		{
			name:         "a wildcard does not match its apex",
			destinations: blocks{"*.example.org": {RequireTLS: Yes}},
			question:     Question{Destination: "example.org"},
			want: "require_tls=no/default skip_verification=no/default on_failure=defer/default " +
				"fallback=plaintext/default message_override=any/default",
		},
		{
			name:         "a wildcard matches any depth, but whole labels only",
			destinations: blocks{"*.example.org": {RequireTLS: Yes, Place: "dest"}, "*.notexample.org": {OnFailure: Reject}},
			question:     Question{Destination: "a.b.c.EXAMPLE.org."},
			want: "require_tls=yes/destination@dest skip_verification=no/default on_failure=defer/default " +
				"fallback=plaintext/default message_override=any/default",
		},
		{
			name:         "A-labels in the pattern, U-labels in the address, and the reverse",
			domains:      blocks{"*.xn--bcher-kva.example": {RequireTLS: Yes, Place: "dom"}},
			destinations: blocks{"Grüße.example": {SkipVerification: Yes, Place: "dest"}},
			question:     Question{SendingDomain: "Mail.BÜCHER.example", Destination: "XN--Gre-6Ka8L.EXAMPLE"},
			want: "require_tls=yes/domain@dom skip_verification=yes/destination@dest on_failure=defer/default " +
				"fallback=plaintext/default message_override=any/default",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := &Policy{Top: test.top}
			for pattern, b := range test.domains {
				if err := p.AddDomain(pattern, b); err != nil {
					t.Fatal(err)
				}
			}
			for pattern, b := range test.destinations {
				if err := p.AddDestination(pattern, b); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(test.want, describe(p.Resolve(test.question))); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

func describe(s Settings) string {
	from := func(src Source, place string) string {
		if place == "" {
			return string(src)
		}
		return string(src) + "@" + place
	}
	yesno := map[bool]string{true: "yes", false: "no"}
	text := fmt.Sprintf("require_tls=%s/%s skip_verification=%s/%s on_failure=%s/%s fallback=%s/%s message_override=%s/%s",
		yesno[s.RequireTLS], from(s.RequireTLSSource, s.RequireTLSPlace),
		yesno[s.SkipVerification], from(s.SkipVerificationSource, s.SkipVerificationPlace),
		s.OnFailure, from(s.OnFailureSource, s.OnFailurePlace),
		s.Fallback, from(s.FallbackSource, s.FallbackPlace),
		s.MessageOverride, from(s.MessageOverrideSource, s.MessageOverridePlace))
	if !s.Refused.IsZero() {
		text += fmt.Sprintf(" refused=%s,%s", s.Refused.RequireTLS, s.Refused.SkipVerification)
	}
	return text
}

func TestHasDomain(t *testing.T) {
	t.Parallel()
	p := &Policy{}
	for _, pattern := range []string{"example.com", "*.example.org"} {
		if err := p.AddDomain(pattern, Block{}); err != nil {
			t.Fatal(err)
		}
	}
	for domain, want := range map[string]bool{
		"example.com": true, "EXAMPLE.com.": true, "sub.example.com": false,
		"example.org": false, "sub.example.org": true, "": false, "org": false,
		".example.org": false, "example.net": false,
	} {
		if got := p.HasDomain(domain); got != want {
			t.Errorf("HasDomain(%q) = %v, want %v", domain, got, want)
		}
	}
}
