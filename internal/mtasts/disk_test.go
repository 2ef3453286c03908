package mtasts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
)

// policyFile is where the policy of a domain is kept.
func policyFile(dir, domain string) string { return filepath.Join(dir, "policies", domain+".json") }

// files lists what is in the directory of policies.
func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "policies"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "state", "cache")
	w.publish("example.net", "1", page("a.example.net", "*.example.org"))
	w.publish("testing.example", "1", mailtest.STSPage{Body: body(Testing, week, "mx.example.net")})
	w.publish("none.example", "1", mailtest.STSPage{Body: body(None, week)})
	c := w.cache(in(dir))
	before := wantPolicy(t, c, "example.net", "a.example.net", "*.example.org").Policy
	wantPolicy(t, c, "testing.example", "mx.example.net")
	wantNone(t, c, "none.example", "")
	c.Close()
	for path, want := range map[string]os.FileMode{
		dir: 0o700, filepath.Join(dir, "policies"): 0o700, policyFile(dir, "example.net"): 0o600,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	// The attacker has arrived in the meantime.
	for _, domain := range []string{"example.net", "testing.example", "none.example"} {
		w.dns.Remove("_mta-sts." + domain)
		w.host.Serve(domain, mailtest.STSPage{Certificate: mailtest.UnknownCA})
	}
	c = w.cache(in(dir))
	after := wantPolicy(t, c, "example.net", "a.example.net", "*.example.org").Policy
	if fmt.Sprint(*before) != fmt.Sprint(*after) {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if r := wantPolicy(t, c, "testing.example", "mx.example.net"); r.Policy.Mode != Testing {
		t.Errorf("mode %s", r.Policy.Mode)
	}
	wantNone(t, c, "none.example", "")
	w.wantFetches(3)
	c.Close()
	// Policies that expired are removed, and not used.
	w.pass(week)
	c = w.cache(in(dir))
	wantNone(t, c, "example.net", "")
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

// The same id after a restart is not fetched again, another one is.
func TestRestartKeepsID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	w.publish("example.net", "1", page("a.example.net"))
	c := w.cache(in(dir))
	wantPolicy(t, c, "example.net", "a.example.net")
	c.Close()
	w.pass(time.Hour)
	w.host.Serve("example.net", page("b.example.net"))
	c = w.cache(in(dir))
	wantPolicy(t, c, "example.net", "a.example.net")
	w.announce("example.net", "2")
	wantPolicy(t, c, "example.net", "b.example.net")
	w.wantFetches(2)
}

func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	fetched := w.now().UTC().Format(time.RFC3339)
	whole := func(domain string) string {
		return `{"version":1,"domain":"` + domain + `","id":"1","mode":"enforce","mx":["old.example.net"],` +
			`"max_age":604800,"fetched":"` + fetched + `","used":"` + fetched + `"}`
	}
	change := func(old, new string) func(string) string {
		return func(domain string) string {
			text := strings.Replace(whole(domain), old, new, 1)
			if text == whole(domain) {
				t.Errorf("nothing to change in %q", old)
			}
			return text
		}
	}
	fixed := func(text string) func(string) string { return func(string) string { return text } }
	cases := map[string]func(string) string{
		"empty":         fixed(""),
		"zeros":         fixed(strings.Repeat("\x00", 4096)),
		"half":          func(domain string) string { return whole(domain)[:90] },
		"text-behind":   func(domain string) string { return whole(domain) + "x" },
		"null":          fixed("null"),
		"list":          fixed("[]"),
		"deep":          fixed(strings.Repeat("[", 100_000)),
		"huge":          fixed(strings.Repeat(" ", maxFile+1)),
		"maddys":        fixed(`{"ID":"1","FetchTime":"` + fetched + `","Policy":{"Mode":"enforce","MaxAge":604800,"MX":["old.example.net"]}}`),
		"other-version": change(`"version":1`, `"version":2`),
		"other-domain":  change(`"domain":"`, `"domain":"a.`),
		"other-mode":    change(`"enforce"`, `"enforced"`),
		"no-mx":         change(`["old.example.net"]`, `[]`),
		"bad-mx":        change(`old.example.net`, `old..example.net`),
		"two-stars":     change(`old.example.net`, `*.*.example.net`),
		"bad-id":        change(`"id":"1"`, `"id":"not an id"`),
		"age":           change(`604800`, `99999999999`),
		"negative-age":  change(`604800`, `-1`),
		"time":          change(fetched, `yesterday`),
	}
	os.Mkdir(filepath.Join(dir, "policies"), 0o700)
	put := func(domain, text string) {
		if err := os.WriteFile(policyFile(dir, domain), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range cases {
		put(name+".example", text(name+".example"))
		w.publish(name+".example", "1", page("new.example.net"))
	}
	put("whole.example", whole("whole.example"))
	w.publish("whole.example", "1", page("new.example.net"))
	put("..", "not a domain")
	put("Upper.example", whole("Upper.example"))
	c := w.cache(in(dir))
	wantPolicy(t, c, "whole.example", "old.example.net")
	for name := range cases {
		wantPolicy(t, c, name+".example", "new.example.net")
		if _, err := os.Stat(policyFile(dir, name+".example") + ".bad"); err != nil {
			t.Error(err)
		}
	}
	if n := w.log.count("damaged and set aside"); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
	c.Close()
	c = w.cache(in(dir))
	for name := range cases {
		wantPolicy(t, c, name+".example", "new.example.net")
	}
	w.wantFetches(len(cases))
}

// What maddy's target.remote keeps in the same directory stays as it is.
func TestMaddysFilesAreLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	text := `{"ID":"1","FetchTime":"2026-01-01T00:00:00Z","Policy":{"Mode":"enforce","MaxAge":604800,"MX":["old.example.net"]}}`
	path := filepath.Join(dir, "example.net")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.publish("example.net", "1", page("new.example.net"))
	c := w.cache(in(dir))
	wantPolicy(t, c, "example.net", "new.example.net")
	c.Close()
	if got, err := os.ReadFile(path); err != nil || string(got) != text {
		t.Errorf("%q, %v", got, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 || !entries[1].IsDir() {
		t.Errorf("%v, %v", entries, err)
	}
}

// A directory that cannot be used costs a line in the log.
func TestUnusableDirectory(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"below", "in place of policies"} {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			root := t.TempDir()
			blocked := filepath.Join(root, "policies")
			if err := os.WriteFile(blocked, []byte("a regular file"), 0o600); err != nil {
				t.Fatal(err)
			}
			at := root
			if dir == "below" {
				at = filepath.Join(blocked, "cache")
			}
			c := w.cache(in(at))
			for i := range 5 {
				domain := fmt.Sprintf("d%d.example", i)
				w.publish(domain, "1", page("mx.example.net"))
				if r := wantPolicy(t, c, domain, "mx.example.net"); r.Err != nil {
					t.Error(r.Err)
				}
			}
			c.Close()
			if n := w.log.count("not kept on disk"); n != 1 {
				t.Errorf("%d lines in the log", n)
			}
		})
	}
}

// A directory that is mended is used, without a restart.
func TestMendedDirectory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := t.TempDir()
	blocked := filepath.Join(root, "cache")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := w.cache(in(blocked))
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	w.publish("example.net", "1", page("mx.example.net"))
	wantPolicy(t, c, "example.net", "mx.example.net")
	c.Close()
	if got := files(t, blocked); len(got) != 1 || got[0] != "example.net.json" {
		t.Errorf("%q", got)
	}
}

// What could not be written while the disk was full is written when it is not any
// more: else a restart would forget it, and the domain were without its policy for
// whoever can forge DNS then.
func TestMendedDirectoryGetsWhatItMissed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "cache")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := w.cache(in(dir))
	for i := range 3 {
		domain := fmt.Sprintf("d%d.example", i)
		w.publish(domain, "1", page("mx.example.net"))
		wantPolicy(t, c, domain, "mx.example.net")
	}
	c.upkeep() // in vain
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(hang)
	for {
		c.upkeep()
		if entries, _ := os.ReadDir(filepath.Join(dir, "policies")); len(entries) == 3 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("policies that could not be written are not on disk, though it is well again")
		}
		time.Sleep(5 * time.Millisecond)
	}
	c.Close()
	if got := files(t, dir); len(got) != 3 {
		t.Errorf("%q", got)
	}
}

func TestLeftoversAreRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	below := filepath.Join(dir, "policies")
	os.Mkdir(below, 0o700)
	for name, age := range map[string]time.Duration{
		".tmp-1": 2 * time.Hour, ".tmp-2": 0, "a.example.json.bad": 31 * 24 * time.Hour, "b.example.json.bad": 0, "README": 0,
	} {
		path := filepath.Join(below, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	w.cache(in(dir))
	if got := strings.Join(files(t, dir), " "); got != ".tmp-2 README b.example.json.bad" {
		t.Errorf("left: %s", got)
	}
}

// A domain with the longest name possible still makes a name of a file.
func TestLongestDomain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	domain := strings.Repeat(strings.Repeat("a", 60)+".", 3) + strings.Repeat("b", 52) + ".example"
	if len(domain) != 243 {
		t.Fatal(len(domain))
	}
	w.publish(domain, "1", page("mx.example.net"))
	c := w.cache(in(dir))
	wantPolicy(t, c, domain, "mx.example.net")
	c.Close()
	if err := os.WriteFile(policyFile(dir, domain), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.cache(in(dir)).Close()
	if got := files(t, dir); len(got) != 1 || got[0] != domain+".json.bad" {
		t.Errorf("%q", got)
	}
}

// A command beside the server reads its policies and changes nothing.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	w.publish("example.net", "1", page("mx.example.net"))
	w.publish("other.example", "1", page("mx.example.net"))
	w.publish("short.example", "1", mailtest.STSPage{Body: body(Enforce, time.Hour, "mx.example.net")})
	c := w.cache(in(dir))
	wantPolicy(t, c, "example.net", "mx.example.net")
	wantPolicy(t, c, "short.example", "mx.example.net")
	c.Close()
	if err := os.WriteFile(policyFile(dir, "bad.example"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.pass(2 * time.Hour)
	before := strings.Join(files(t, dir), " ")
	c = w.cache(in(dir), func(cfg *Config) { cfg.ReadOnly = true })
	wantPolicy(t, c, "example.net", "mx.example.net")
	wantPolicy(t, c, "other.example", "mx.example.net")
	w.wantFetches(3)
	c.Close()
	if after := strings.Join(files(t, dir), " "); after != before {
		t.Errorf("before %s, after %s", before, after)
	}
}
