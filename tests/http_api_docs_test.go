package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"tlscontrol/internal/mailtest"
)

// TestAPIPage: the examples of docs/http-api.md work, one after the other, and
// answer as the page says.
func TestAPIPage(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skipf("SKIPPED: the examples were not tried: %v", err)
	}
	s := newServer(t, mailtest.Behaviour{})
	b := apiBlocks(s, "")
	b.policy = domainsInSQL(s.dir) // and no domain with a block
	s.config(b)
	s.start()
	key := s.key("")
	all, _ := fences(t, "docs/http-api.md", readPage(t, "docs/http-api.md"))
	tried := 0
	for i, f := range all {
		if f.language != "sh" {
			continue
		}
		where := fmt.Sprintf("docs/http-api.md:%d", f.line)
		if i+1 == len(all) || all[i+1].language != "json" {
			t.Errorf("%s: no answer is shown", where)
			continue
		}
		var want any
		if err := json.Unmarshal([]byte(all[i+1].text), &want); err != nil {
			t.Errorf("%s: the answer: %v", where, err)
			continue
		}
		tried++
		var got any
		s.eventually(where, func() bool { // events come a moment later
			var out, complaints bytes.Buffer
			shell := exec.Command("sh", "-euc", f.text)
			shell.Env = append(os.Environ(), "API="+s.apiURL(), "KEY="+key, "no_proxy=*")
			shell.Stdout, shell.Stderr = &out, &complaints
			if err := shell.Run(); err != nil {
				t.Fatalf("%s: %v\n%s%s", where, err, &out, &complaints)
			}
			if err := json.Unmarshal(out.Bytes(), &got); err != nil {
				t.Fatalf("%s: %v\n%s", where, err, &out)
			}
			return !strings.Contains(f.text, "event=accepted") || strings.Contains(out.String(), `"event"`)
		})
		if d := differs("", got, want); d != "" {
			t.Errorf("%s: %s\ngot  %v\nwant %v", where, d, got, want)
		}
	}
	if tried < 7 {
		t.Errorf("%d examples were tried", tried)
	}
	s.documents(3) // they were mail
}

// differs says where an answer is not as shown: names must be the same, and so
// must values, except those that nobody could foretell.
func differs(at string, got, want any) string {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok || !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
			return at + ": other names"
		}
		for name := range want {
			if d := differs(at+"."+name, got[name], want[name]); d != "" {
				return d
			}
		}
		return ""
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(want) {
			return at + ": another number of items"
		}
		for i := range want {
			if d := differs(fmt.Sprintf("%s[%d]", at, i), got[i], want[i]); d != "" {
				return d
			}
		}
		return ""
	}
	for _, chance := range []string{".id", ".api-key-id", ".hostname", ".timestamp", ".queue-id", ".message-id", ".size", ".previous", ".next", ".first", ".last"} {
		if strings.HasSuffix(at, chance) && fmt.Sprintf("%T", got) == fmt.Sprintf("%T", want) {
			return ""
		}
	}
	if got != want {
		return fmt.Sprintf("%s: %v", at, got)
	}
	return ""
}
