package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// query is a block of a page that asks the delivery log.
var query = regexp.MustCompile("(?s)```sh\n(jq [^`]*deliveries\\.jsonl[^`]*)```")

// queries returns the queries of a page, by their beginning.
func queries(t *testing.T, page string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", page))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range query.FindAllStringSubmatch(string(text), -1) {
		all = append(all, block[1])
	}
	if len(all) == 0 {
		t.Fatalf("%s has no query", page)
	}
	return all
}

// TestDocumentedQueries: each query to the log that a page has can be asked, also of a log
// with a line that was cut off, and those that name a state tell of that state.
func TestDocumentedQueries(t *testing.T) {
	t.Parallel()
	realTool(t, "jq")
	dir := t.TempDir()
	now := time.Now().Add(time.Minute).Unix() // today for jq, too, if it asks after midnight
	attempt := func(at int64, id, recipient, event, rest string) string {
		return fmt.Sprintf(`{"event":%q,"timestamp":%d.5,"queue-id":%q,"recipient":"%s@%s","recipient-domain":%[5]q,"message":{"headers":{"message-id":"x@example.com"}},%s}`,
			event, at, id, "b", recipient, rest)
	}
	failed := func(id, domain, reason string) string {
		return attempt(now, id, domain, "failed", `"severity":"temporary","reason":"`+reason+`"`)
	}
	const clear = `"delivery-status":{"tls":false,"content-sent":"clear","mx-host":"mx.test","tls-fallback":"tls-not-offered"}`
	const policy = `"delivery-status":{"tls":true,"content-sent":"verified"},"tls-policy":{"demanded":"verified","require-tls-source":"message","skip-verification-source":"table"}`
	refused := attempt(now, "7", "partner.example", "failed", `"severity":"permanent","reason":"rcpt-rejected",`+clear)
	log := strings.Join([]string{
		attempt(now-3*86400, "1", "earlier.test", "delivered", clear),
		attempt(now, "2", "today.test", "delivered", clear),
		failed("3", "waits.test", "tls-not-offered"), failed("3", "waits.test", "certificate-expired"),
		failed("4", "since.test", "tls-not-offered"), attempt(now, "4", "since.test", "delivered", policy),
		failed("5", "other.test", "tls-not-offered"), failed("5", "other.test", "connect"),
		attempt(now, "6", "handed.test", "delivered", `"delivery-status":{"tls":true,"mx-host":"good.test","content-sent":"clear","hosts":[{"mx-host":"plain.test","content-sent":"clear"},{"mx-host":"down.test"}]}`),
		refused,
		attempt(now, "8", "partner.example", "failed", `"severity":"temporary","reason":"connect","delivery-status":{}`),
		attempt(now, "9", "partner.example", "delivered", policy),
		`{"event":"deliv`,
	}, "\n")
	if err := os.WriteFile(filepath.Join(dir, "deliveries.jsonl"), []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	const handed = "delivered\tb@handed.test\tplain.test\t\nfailed\tb@partner.example\tmx.test\ttls-not-offered\n"
	wants := map[string]string{ // by a part of the query
		"now / 86400":                  "delivered\tb@today.test\tmx.test\ttls-not-offered\n" + handed,
		`IN("verified", "failed")`:     refused + "\n" + `{"cut off":"{\"event\":\"deliv"}` + "\n",
		"reduce":                       "      1 waits.test\tcertificate-expired\n",
		`"x@example.com")` + "\n  | [": `"verified","message","table"]` + "\n",
	}
	for _, page := range []string{"README.md", "docs/delivery-log.md"} {
		for _, q := range queries(t, page) {
			c := exec.Command("sh", "-c", q)
			c.Dir = dir
			out, err := c.CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v\n%s\n%s", page, err, q, out)
			}
			for part, want := range wants {
				if !strings.Contains(q, part) {
					continue
				}
				delete(wants, part)
				if got := string(out); got != want && !(strings.HasPrefix(want, `"`) && strings.Contains(got, want)) {
					t.Errorf("%s: got\n%swant\n%s\n%s", page, got, want, q)
				}
			}
		}
	}
	for part := range wants {
		t.Errorf("no query has %s", part)
	}
}
