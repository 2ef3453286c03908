package policy

import "testing"

// What the places of one combination say. The reference below works on these
// plain words and knows nothing of blocks, layers or matching.
type said struct {
	require, skip [4]string // by place: destination, sending domain (or row), top; last: message
	admit         [3]string // destination, sending domain (or row), top
	row           bool      // the second place is the table's row, not a block
}

// reference resolves require_tls and skip_verification the long way round:
// every sentence of the rules written out as a condition.
func reference(c said) (require, skip, requireFrom, skipFrom string) {
	admit := "any"
	if c.admit[2] != "" {
		admit = c.admit[2]
	}
	if c.admit[1] != "" {
		admit = c.admit[1]
	}
	if c.admit[0] != "" {
		admit = c.admit[0]
	}
	domain := "domain"
	if c.row {
		domain = "table"
	}

	require, requireFrom = "no", "default"
	if c.require[2] != "" {
		require = c.require[2]
	}
	if c.require[1] != "" {
		require, requireFrom = c.require[1], domain
	}
	if c.require[0] != "" {
		require, requireFrom = c.require[0], "destination"
	}
	if asked := c.require[3]; asked != "" {
		if admit == "any" || admit == "tighten" && asked == "yes" {
			require, requireFrom = asked, "message"
		}
	}

	skip, skipFrom = "no", "default"
	if c.skip[2] != "" {
		skip = c.skip[2]
	}
	if c.skip[1] != "" {
		skip, skipFrom = c.skip[1], domain
	}
	if c.skip[0] != "" {
		skip, skipFrom = c.skip[0], "destination"
	}
	if asked := c.skip[3]; asked != "" {
		if admit == "any" || admit == "tighten" && asked == "no" {
			skip, skipFrom = asked, "message"
		}
	}
	return require, skip, requireFrom, skipFrom
}

var (
	everySwitch = map[string]Switch{"": Unset, "no": No, "yes": Yes}
	everyAdmit  = map[string]Admission{"": "", "any": AdmitAny, "tighten": AdmitTighten, "none": AdmitNone}
	yesNo       = map[bool]string{true: "yes", false: "no"}
)

// TestEveryCombination asks every combination of silent, no and yes in the
// message and in each place, under every message_override in each place: about
// 840,000 questions.
func TestEveryCombination(t *testing.T) {
	t.Parallel()
	count := 0
	for _, row := range []bool{false, true} {
		for _, admits := range combinations("", "any", "tighten", "none") {
			for _, requires := range combinations("", "no", "yes") {
				for _, skips := range combinations("", "no", "yes") {
					c := said{row: row, admit: admits}
					copy(c.require[:], requires[:])
					copy(c.skip[:], skips[:])
					count += askEveryOverride(t, c)
					if t.Failed() {
						return
					}
				}
			}
		}
	}
	if want := 2 * 64 * 27 * 27 * 9; count != want {
		t.Errorf("%d combinations, want %d", count, want)
	}
}

// combinations returns all ways to put one of the words in each of three places.
func combinations(words ...string) (all [][3]string) {
	for _, a := range words {
		for _, b := range words {
			for _, c := range words {
				all = append(all, [3]string{a, b, c})
			}
		}
	}
	return all
}

func askEveryOverride(t *testing.T, c said) int {
	place := func(i int) Block {
		return Block{RequireTLS: everySwitch[c.require[i]], SkipVerification: everySwitch[c.skip[i]],
			MessageOverride: everyAdmit[c.admit[i]]}
	}
	p := &Policy{Top: place(2)}
	q := Question{SendingDomain: "from.example", Destination: "to.example"}
	err := p.AddDestination("to.example", place(0))
	if c.row {
		row := place(1)
		q.Row = &row
	} else if err == nil {
		err = p.AddDomain("from.example", place(1))
	}
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for asked, require := range everySwitch {
		for askedSkip, skip := range everySwitch {
			c.require[3], c.skip[3] = asked, askedSkip
			q.Override = Override{require, skip}
			got := p.Resolve(q)
			require, skip, requireFrom, skipFrom := reference(c)
			if yesNo[got.RequireTLS] != require || string(got.RequireTLSSource) != requireFrom ||
				yesNo[got.SkipVerification] != skip || string(got.SkipVerificationSource) != skipFrom {
				t.Errorf("%+v: got %s, want require_tls=%s/%s skip_verification=%s/%s",
					c, describe(got), require, requireFrom, skip, skipFrom)
			}
			count++
		}
	}
	return count
}

// TestEveryFailureAndFallback does the same for the two settings that no
// message can override.
func TestEveryFailureAndFallback(t *testing.T) {
	t.Parallel()
	override := Override{No, Yes}
	for _, failures := range combinations("", "defer", "reject") {
		for _, fallbacks := range combinations("", "plaintext", "unverified") {
			place := func(i int) Block {
				return Block{OnFailure: OnFailure(failures[i]), Fallback: Fallback(fallbacks[i])}
			}
			p := &Policy{Top: place(2)}
			row := place(1)
			if err := p.AddDestination("to.example", place(0)); err != nil {
				t.Fatal(err)
			}
			got := p.Resolve(Question{SendingDomain: "from.example", Destination: "to.example", Override: override, Row: &row})
			failure, failureFrom := lastWord("defer", failures)
			fallback, fallbackFrom := lastWord("plaintext", fallbacks)
			if string(got.OnFailure) != failure || string(got.OnFailureSource) != failureFrom ||
				string(got.Fallback) != fallback || string(got.FallbackSource) != fallbackFrom {
				t.Errorf("%v %v: got %s", failures, fallbacks, describe(got))
			}
		}
	}
}

// lastWord lets the places speak from the weakest to the strongest, each
// overriding the one before.
func lastWord(builtIn string, places [3]string) (word, from string) {
	word, from = builtIn, "default"
	names := [3]string{"destination", "table", "default"}
	for i := 2; i >= 0; i-- {
		if places[i] != "" {
			word, from = places[i], names[i]
		}
	}
	return word, from
}
