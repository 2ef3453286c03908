package deliverylog

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	parser "github.com/foxcpp/maddy/framework/cfgparser"
	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/module"
	"github.com/google/go-cmp/cmp"
)

// block parses text, as it would stand in maddy.conf, and returns its first
// block.
func block(t *testing.T, text string) config.Node {
	t.Helper()
	nodes, err := parser.Read(strings.NewReader(text), "maddy.conf")
	if err != nil {
		t.Fatal(err)
	}
	return nodes[0]
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		text    string
		outputs []string
		headers []string
	}{
		{"empty", "delivery_log d { }", []string{"stderr"}, []string{"message-id"}},
		{"no block", "delivery_log d", []string{"stderr"}, []string{"message-id"}},
		{"off", "delivery_log d {\n output off\n}", nil, []string{"message-id"}},
		{
			"everything",
			"delivery_log d {\n output file a.jsonl\n headers Message-ID X-Campaign\n output file /b\n output stdout\n output syslog\n}",
			[]string{"file a.jsonl", "file /b", "stdout", "syslog"},
			[]string{"message-id", "x-campaign"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, err := parse(block(t, c.text))
			if err != nil {
				t.Fatal(err)
			}
			var outputs []string
			for _, o := range s.outputs {
				outputs = append(outputs, o.String())
			}
			if diff := cmp.Diff(c.outputs, outputs); diff != "" {
				t.Errorf("outputs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.headers, s.headers); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
		})
	}
}

// mistake is lines of a block, from line 2 on, and the message about the last
// of them.
type mistake struct{ line, want string }

// mistakes lists them; missing is a file that cannot be made.
func mistakes(missing string) []mistake {
	many := strings.TrimSpace(strings.Repeat("X-Some ", 33))
	return []mistake{
		{"ouput stderr", `unexpected directive "ouput", expected output or headers`},
		{"output", "output: expected file PATH, stderr, stdout, syslog or off"},
		{"output /var/log/x", `output: unexpected "/var/log/x", expected file PATH, stderr, stdout, syslog or off`},
		{"output STDERR", `output: unexpected "STDERR", expected file PATH, stderr, stdout, syslog or off`},
		{"output file", "output file: expected a path"},
		{`output file ""`, "output file: expected a path"},
		{"output file a b", `output file: unexpected "b" after the path`},
		{"output syslog local0", `output syslog: unexpected "local0", expected nothing more`},
		{"output stderr\noutput stderr", "output stderr: stands here twice, first in line 2"},
		{"output file /a/b\noutput file /a/./c/../b", "output file /a/./c/../b: stands here twice, first in line 2"},
		{"output file a\noutput file ./a", "output file ./a: stands here twice, first in line 2"},
		{"output stderr\noutput off", `output off: "off" cannot be combined with other outputs`},
		{"output off\noutput file a", `output file a: "off" cannot be combined with other outputs`},
		{"output stderr { }", "output: a block is not allowed here"},
		{"headers", "headers: expected at least one field name"},
		{"headers Message-ID:", `headers: "Message-ID:" is not the name of a header field`},
		{`headers "Message ID"`, `headers: "Message ID" is not the name of a header field`},
		{"headers Größe", `headers: "Größe" is not the name of a header field`},
		{"headers " + strings.Repeat("x", 65), `headers: "` + strings.Repeat("x", 65) + `" is not the name of a header field`},
		{"headers Subject subject", `headers: "subject" stands here twice`},
		{"headers " + many, "headers: 33 field names, expected at most 32"},
		{"headers Subject\nheaders Date", "headers: the directive may stand only once, list all names in it"},
		{"output file " + missing, "output file " + missing + ": open " + missing + ": no such file or directory"},
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, c := range mistakes(filepath.Join(t.TempDir(), "missing", "log")) {
		t.Run(c.line, func(t *testing.T) {
			t.Parallel()
			text := "delivery_log d {\n" + c.line + "\n}"
			want := "maddy.conf:" + lastLine(c.line) + ": " + c.want
			err := newModule("d").Init(config.NewMap(nil, block(t, text)))
			if err == nil || err.Error() != want {
				t.Errorf("\n got %v\nwant %s", err, want)
			}
		})
	}
}

// lastLine is the line number of the last directive in a block.
func lastLine(directives string) string {
	return string(rune('2' + strings.Count(directives, "\n")))
}

func TestInlineArguments(t *testing.T) {
	t.Parallel()
	m, err := New(modName, "", nil, []string{"stderr"})
	if err != nil {
		t.Fatal(err)
	}
	err = m.Init(config.NewMap(nil, block(t, "delivery_log stderr { }")))
	if want := `maddy.conf:1: delivery_log: unexpected "stderr", expected a block`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestFailedInitLeavesNothingOpen: when the second output is wrong, the first
// one's file is closed again.
func TestFailedInitLeavesNothingOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := filepath.Join(dir, "first")
	s, err := parse(block(t, "delivery_log d {\n output file "+first+"\n output file "+dir+"\n}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openAll(s.outputs, ""); err == nil || !strings.HasPrefix(err.Error(), "maddy.conf:3: output file "+dir+": ") {
		t.Fatalf("%v", err)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("SKIPPED: whether files stay open cannot be seen here: %v", err)
	}
	for _, fd := range fds {
		if target, _ := os.Readlink("/proc/self/fd/" + fd.Name()); target == first {
			t.Errorf("%s is still open", first)
		}
	}
}

func TestInStateDir(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{"/var/lib/maddy", "log", "/var/lib/maddy/log"},
		{"/var/lib/maddy", "/var/log/log", "/var/log/log"},
		{"", "log", "log"},
	} {
		if got := inStateDir(c[0], c[1]); got != c[2] {
			t.Errorf("inStateDir(%q, %q) = %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

// TestDirective is not parallel, nor are its cases: maddy's registry of
// blocks has no lock.
func TestDirective(t *testing.T) {
	dir := t.TempDir()
	// The registry lives as long as the process and remembers names.
	prefix := filepath.Base(filepath.Dir(dir)) + "-"
	named, broken := newModule(prefix+"deliveries"), newModule(prefix+"broken")
	register := func(m module.Module, text string) {
		module.RegisterInstance(m, config.NewMap(nil, block(t, text)))
	}
	register(named, "delivery_log d {\n output file "+dir+"/log\n}")
	register(broken, "delivery_log d {\n output x\n}")
	register(otherModule{name: prefix + "other"}, "other o")
	t.Cleanup(func() { named.Close() })

	for _, c := range []struct{ text, want string }{
		{"delivery_log", "maddy.conf:1: delivery_log: expected &name or a block"},
		{"delivery_log &", `maddy.conf:1: delivery_log: unexpected "&", expected &name or a block`},
		{"delivery_log stderr", `maddy.conf:1: delivery_log: unexpected "stderr", expected &name or a block`},
		{"delivery_log &a b", `maddy.conf:1: delivery_log: unexpected "b", expected &name or a block`},
		{"delivery_log &test-deliveries { }", "maddy.conf:1: delivery_log: a block is not allowed after &test-deliveries"},
		{"delivery_log &test-nowhere", `maddy.conf:1: delivery_log: there is no block named "test-nowhere"`},
		{"delivery_log &test-other", "maddy.conf:1: delivery_log: &test-other is a block of other, expected one of delivery_log"},
		{"delivery_log &test-broken", `maddy.conf:2: output: unexpected "x", expected file PATH, stderr, stdout, syslog or off`},
		{"delivery_log {\n output y\n}", `maddy.conf:2: output: unexpected "y", expected file PATH, stderr, stdout, syslog or off`},
	} {
		got, err := Directive(config.NewMap(nil, config.Node{}), block(t, strings.ReplaceAll(c.text, "test-", prefix)))
		if err == nil || err.Error() != strings.ReplaceAll(c.want, "test-", prefix) {
			t.Errorf("%q: got %v, %v\nwant %s", c.text, got, err, c.want)
		}
	}

	got, err := Directive(config.NewMap(nil, config.Node{}), block(t, "delivery_log &"+prefix+"deliveries"))
	if err != nil || got != named || named.Observer() == nil {
		t.Errorf("reference: %v, %v", got, err)
	}
	got, err = Directive(config.NewMap(nil, config.Node{}), block(t, "delivery_log {\n output off\n}"))
	if err != nil {
		t.Fatal(err)
	}
	inline := got.(*Module)
	if inline.InstanceName() != "" || inline.Name() != modName || inline.Observer() == nil {
		t.Errorf("inline: %+v", inline)
	}
	if err := inline.Close(); err != nil {
		t.Error(err)
	}
}

type otherModule struct{ name string }

func (otherModule) Init(*config.Map) error { return nil }
func (otherModule) Name() string           { return "other" }
func (m otherModule) InstanceName() string { return m.name }

func TestRegistered(t *testing.T) {
	t.Parallel()
	if module.Get(modName) == nil {
		t.Error("delivery_log is not registered")
	}
}
