package tests

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// pages returns the documentation files, as paths from the root of the
// repository.
func pages(t *testing.T) []string {
	t.Helper()
	required := []string{"README.md", "CHANGELOG.md"}
	var found []string
	err := filepath.WalkDir("..", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != ".." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			found = append(found, filepath.ToSlash(path[len("../"):]))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range []string{"../module/*/*.go", "../check/*/*.go", "../target/*/*.go"} {
		sources, err := filepath.Glob(module)
		if err != nil {
			t.Fatal(err)
		}
		for _, source := range sources {
			if !registers(t, source) {
				continue
			}
			required = append(required, filepath.ToSlash(filepath.Join(filepath.Dir(source), "README.md"))[len("../"):])
		}
	}
	for _, page := range required {
		if !slices.Contains(found, page) {
			t.Errorf("%s is missing", page)
		}
	}
	return found
}

// registers reports whether a source file gives maddy a module, which needs a page.
func registers(t *testing.T, source string) bool {
	t.Helper()
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(text), "module.Register")
}

func readPage(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fence is a fenced block of a page.
type fence struct {
	line     int // of the opening fence
	language string
	text     string
}

// fences returns the fenced blocks of a page, and the page without them.
func fences(t *testing.T, page, text string) (all []fence, prose string) {
	t.Helper()
	var (
		open   *fence
		indent string
		rest   strings.Builder
	)
	for i, line := range strings.Split(text, "\n") {
		inner := strings.TrimLeft(line, " ")
		mark, isFence := strings.CutPrefix(inner, "```")
		switch {
		case isFence && open == nil:
			open = &fence{line: i + 1, language: strings.TrimSpace(mark)}
			indent = line[:len(line)-len(inner)]
		case isFence:
			all = append(all, *open)
			open = nil
		case open != nil:
			open.text += strings.TrimPrefix(line, indent) + "\n"
		default:
			rest.WriteString(line + "\n")
		}
	}
	if open != nil {
		t.Errorf("%s:%d: the block does not end", page, open.line)
	}
	return all, rest.String()
}

// ours matches a line that opens a block of this project.
var ours = regexp.MustCompile(`(?m)^\s*(target\.remote_tls|tls_policy|delivery_log|event_store|(check\.)?tls_override|http_api)\b.*\{`)

// placeholder matches what only a description of the syntax has.
var placeholder = regexp.MustCompile(`\b[A-Z]{3,}\b|\.\.\.`)

// TestFencesAreMarked: no configuration escapes the test by how it is marked.
func TestFencesAreMarked(t *testing.T) {
	t.Parallel()
	languages := []string{"maddyconf", "text", "sh", "json", "yaml", "go"}
	for _, page := range pages(t) {
		all, _ := fences(t, page, readPage(t, page))
		for _, f := range all {
			switch {
			case !slices.Contains(languages, f.language):
				t.Errorf("%s:%d: a block marked %q, expected one of %s", page, f.line, f.language, strings.Join(languages, ", "))
			case f.language != "maddyconf" && ours.MatchString(f.text) && !placeholder.MatchString(f.text):
				t.Errorf("%s:%d: configuration is marked %q, expected maddyconf", page, f.line, f.language)
			}
		}
	}
}

// TestLinks: links inside the repository lead somewhere.
func TestLinks(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^()\s]+)\)`)
	code := regexp.MustCompile("`[^`\n]*`")
	for _, page := range pages(t) {
		_, prose := fences(t, page, readPage(t, page))
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(prose, "code"), -1) {
			target, err := url.Parse(m[1])
			if err != nil {
				t.Errorf("%s: link %s: %v", page, m[1], err)
				continue
			}
			if target.Scheme != "" {
				continue // not ours
			}
			file := page
			if target.Path != "" {
				file = filepath.ToSlash(filepath.Join(filepath.Dir(page), target.Path))
			}
			if _, err := os.Stat(filepath.Join("..", file)); err != nil || strings.HasPrefix(file, "..") {
				t.Errorf("%s: link %s: there is no %s", page, m[1], file)
				continue
			}
			if target.Fragment != "" && !slices.Contains(anchors(t, file), target.Fragment) {
				t.Errorf("%s: link %s: %s has no such heading", page, m[1], file)
			}
		}
	}
}

// anchors are the names of a page's headings, as GitHub makes them, and those that it
// gives to places itself.
func anchors(t *testing.T, page string) (names []string) {
	t.Helper()
	_, prose := fences(t, page, readPage(t, page))
	for _, m := range regexp.MustCompile(`(?m)^<a id="([a-z-]+)"></a>$`).FindAllStringSubmatch(prose, -1) {
		names = append(names, m[1])
	}
	count := make(map[string]int)
	for _, m := range regexp.MustCompile(`(?m)^#{1,6} +(.*)$`).FindAllStringSubmatch(prose, -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
				return unicode.ToLower(r)
			case r == ' ':
				return '-'
			}
			return -1
		}, strings.TrimSpace(m[1]))
		if n := count[name]; n > 0 {
			names = append(names, name+"-"+strconv.Itoa(n))
		} else {
			names = append(names, name)
		}
		count[name]++
	}
	return names
}

// TestMetricsPage: docs/metrics.md lists what the process serves, no more and
// no less.
func TestMetricsPage(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	b := apiBlocks(s, "") // with an event store, and the API
	b.target += "\ntlsrpt {\nfrom reports@relay.example.com\nmail no\n}"
	s.config(b)
	s.start()
	var got, listed []string
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (maddy_remote_tls_\S+) (\S+)$`).FindAllStringSubmatch(s.served(), -1) {
		got = append(got, m[1]+" "+m[2])
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(maddy_remote_tls_\\S+)` \\| (\\S+) \\|").FindAllStringSubmatch(readPage(t, "docs/metrics.md"), -1) {
		listed = append(listed, m[1]+" "+m[2])
	}
	slices.Sort(got)
	slices.Sort(listed)
	if len(got) == 0 || !slices.Equal(got, listed) {
		t.Errorf("served:\n%s\nlisted:\n%s", strings.Join(got, "\n"), strings.Join(listed, "\n"))
	}
}
