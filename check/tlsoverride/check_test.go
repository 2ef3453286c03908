package tlsoverride

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-message/textproto"
	"github.com/foxcpp/maddy/framework/buffer"
	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/exterrors"
	"github.com/foxcpp/maddy/framework/log"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/policy"
	"tlscontrol/module/tlspolicy"
)

const inlinePolicy = "policy {\n}\n"

// readHeader makes a header of lines.
func readHeader(t *testing.T, lines ...string) textproto.Header {
	t.Helper()
	h, err := textproto.ReadHeader(bufio.NewReader(strings.NewReader(strings.Join(lines, "\r\n") + "\r\n\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// submit passes a message through the check, all steps as maddy does.
func submit(t *testing.T, c *Check, meta *module.MsgMetadata, header textproto.Header) module.CheckResult {
	t.Helper()
	ctx := context.Background()
	s, err := c.CheckStateForMsg(ctx, meta)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for step, res := range map[string]module.CheckResult{
		"connection": s.CheckConnection(ctx),
		"sender":     s.CheckSender(ctx, "a@example.com"),
		"rcpt":       s.CheckRcpt(ctx, "b@example.net"),
	} {
		if res.Reject || res.Quarantine || res.Reason != nil || res.Header.Len() != 0 {
			t.Errorf("%s: %+v", step, res)
		}
	}
	return s.CheckBody(ctx, header, buffer.MemoryBuffer{Slice: []byte("hello\r\n")})
}

var (
	loggedIn  = &module.ConnState{AuthUser: "a@example.com"}
	stranger  = &module.ConnState{}
	noNetwork *module.ConnState
)

func TestWhoIsAdmitted(t *testing.T) {
	t.Parallel()
	clients := map[string]*module.ConnState{"logged in": loggedIn, "stranger": stranger, "local": noNetwork}
	for allow, admitted := range map[string][]string{
		"":                    {"logged in"},
		"allow authenticated": {"logged in"},
		"allow all":           {"logged in", "stranger", "local"},
		"allow none":          {},
	} {
		dir := t.TempDir()
		c := mustLoad(t, dir, "tls_override {\n"+inlinePolicy+allow+"\n}")
		for client, conn := range clients {
			want := strings.Contains(strings.Join(admitted, ","), client)
			meta := &module.MsgMetadata{ID: "7f3a9c1e", Conn: conn}

			res := submit(t, c, meta, readHeader(t, "X-Skip-Verification: yes"))
			if got := res.Header.Has(policy.StampField); got != want || res.Reject {
				t.Errorf("%q, %s: stamped %v, want %v; %v", allow, client, got, want, res.Reason)
			}
			res = submit(t, c, meta, readHeader(t, "X-Skip-Verification: nonsense"))
			if res.Reject != want || res.Header.Len() != 0 {
				t.Errorf("%q, %s: nonsense rejected %v, want %v", allow, client, res.Reject, want)
			}
		}
	}
}

// From submission to delivery: the header goes to disk and back, the message ID
// gets a suffix, another block of the same maddy opens the stamp.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fields []string
		want   policy.Override
	}{
		{[]string{"X-Require-TLS: yes"}, policy.Override{RequireTLS: policy.Yes}},
		{[]string{"x-mailgun-require-tls: false", "X-Mailgun-Skip-Verification: True"},
			policy.Override{RequireTLS: policy.No, SkipVerification: policy.Yes}},
		{[]string{"X-Require-TLS: on", "X-Require-TLS:\r\n 1", "X-Skip-Verification: 0"},
			policy.Override{RequireTLS: policy.Yes, SkipVerification: policy.No}},
		// A stamp that the client brings along opens for nobody.
		{[]string{"TLS-Override: " + policy.Key{}.Stamp("7f3a9c1e", policy.Override{SkipVerification: policy.Yes}), "X-Require-TLS: yes"},
			policy.Override{RequireTLS: policy.Yes}},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.fields, " "), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c := mustLoad(t, dir, "tls_override {\n"+inlinePolicy+"}")
			header := readHeader(t, append([]string{"Subject: hello"}, test.fields...)...)
			res := submit(t, c, &module.MsgMetadata{ID: "7f3a9c1e", Conn: loggedIn}, header)
			if res.Reject || res.Header.Len() != 1 {
				t.Fatalf("got %+v", res)
			}
			header = throughQueue(t, header, res.Header)

			target := targetPolicy(t, dir)
			key, err := target.OverrideKey()
			if err != nil {
				t.Fatal(err)
			}
			var opened []policy.Override
			for _, stamp := range header.Values(policy.StampField) {
				if o, err := key.Open(stamp, "7f3a9c1e-66f0a1b2"); err == nil {
					opened = append(opened, o)
				}
				if _, err := key.Open(stamp, "00000000-66f0a1b2"); err == nil {
					t.Errorf("%s opens for another message", stamp)
				}
			}
			if len(opened) != 1 || opened[0] != test.want {
				t.Errorf("opened %v, want %v", opened, test.want)
			}
		})
	}
}

// throughQueue adds a check's fields as maddy's pipeline does, and writes and
// reads the header as its queue does.
func throughQueue(t *testing.T, header, added textproto.Header) textproto.Header {
	t.Helper()
	for field := added.Fields(); field.Next(); {
		raw, err := field.Raw()
		if err != nil {
			t.Fatal(err)
		}
		header.AddRaw(raw)
	}
	var disk strings.Builder
	if err := textproto.WriteHeader(&disk, header); err != nil {
		t.Fatal(err)
	}
	read, err := textproto.ReadHeader(bufio.NewReader(strings.NewReader(disk.String())))
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// targetPolicy is the policy of a target in the same maddy.
func targetPolicy(t *testing.T, stateDir string) *tlspolicy.Module {
	t.Helper()
	globals := map[string]interface{}{"state_dir": stateDir}
	mod, err := tlspolicy.Directive(config.NewMap(globals, config.Node{}), parse(t, "policy {\n}")[0])
	if err != nil {
		t.Fatal(err)
	}
	return mod.(*tlspolicy.Module)
}

func TestNothingAsked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := mustLoad(t, dir, "tls_override {\n"+inlinePolicy+"allow all\n}")
	res := submit(t, c, &module.MsgMetadata{ID: "7f3a9c1e"}, readHeader(t, "Subject: X-Require-TLS: yes", "TLS-Required: No"))
	if res.Reject || res.Header.Len() != 0 {
		t.Errorf("got %+v", res)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("a key was made without need: %v, %v", files, err)
	}
}

func rejection(t *testing.T, res module.CheckResult) *exterrors.SMTPError {
	t.Helper()
	var se *exterrors.SMTPError
	if !res.Reject || !errors.As(res.Reason, &se) || res.Header.Len() != 0 {
		t.Fatalf("got %+v, want a rejection", res)
	}
	if se.CheckName != "tls_override" {
		t.Errorf("check %q", se.CheckName)
	}
	return se
}

func TestRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fields []string
		want   string
	}{
		{[]string{"X-Require-TLS: maybe"},
			`Message refused: header field X-Require-TLS: unexpected "maybe", expected yes or no`},
		{[]string{"X-Skip-Verification:"},
			`Message refused: header field X-Skip-Verification: unexpected "", expected yes or no`},
		{[]string{"X-Require-TLS: yes", "X-Mailgun-Require-TLS: no"},
			`Message refused: header field X-Mailgun-Require-TLS: "no" contradicts X-Require-TLS`},
		{[]string{"X-Require-TLS: \x1b[2J\x00é" + strings.Repeat("z", 5000)},
			`Message refused: header field X-Require-TLS: unexpected "\x1b[2J\x00\u00e9` + strings.Repeat("z", 57) + `"..., expected yes or no`},
	}
	for _, test := range tests {
		t.Run(test.want, func(t *testing.T) {
			t.Parallel()
			c := mustLoad(t, t.TempDir(), "tls_override")
			se := rejection(t, submit(t, c, &module.MsgMetadata{ID: "7f3a9c1e", Conn: loggedIn}, readHeader(t, test.fields...)))
			if se.Code != 554 || se.EnhancedCode != (exterrors.EnhancedCode{5, 6, 0}) || se.Message != test.want {
				t.Errorf("got %d %s %s\nwant %s", se.Code, se.EnhancedCode.FormatLog(), se.Message, test.want)
			}
			if len(se.Message) > 480 {
				t.Errorf("%d bytes do not fit into a reply line", len(se.Message))
			}
			if se.Misc["field"] == nil || se.Misc["value"] == nil {
				t.Errorf("the log does not say which field: %v", se.Misc)
			}
		})
	}
}

// The longest possible complaint still fits into a reply line.
func TestRefusedLength(t *testing.T) {
	t.Parallel()
	long := "X-" + strings.Repeat("a", 62)
	c := mustLoad(t, t.TempDir(), "tls_override {\npolicy {\nrequire_tls_header "+long+"\n}\n}")
	se := rejection(t, submit(t, c, &module.MsgMetadata{Conn: loggedIn}, readHeader(t, long+": "+strings.Repeat("\x01", 900))))
	if len(se.Message) > 480 {
		t.Errorf("%d bytes", len(se.Message))
	}
}

// An override that cannot be stamped is not lost: the client has to try again.
func TestKeyUnavailable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tls_override.key"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := mustLoad(t, dir, "tls_override {\n"+inlinePolicy+"}")
	meta := &module.MsgMetadata{ID: "7f3a9c1e", Conn: loggedIn}

	se := rejection(t, submit(t, c, meta, readHeader(t, "X-Require-TLS: yes")))
	if se.Code != 451 || se.EnhancedCode != (exterrors.EnhancedCode{4, 3, 0}) || !exterrors.IsTemporary(se) {
		t.Errorf("got %d %v", se.Code, se.EnhancedCode)
	}
	if strings.Contains(se.Message, dir) || !strings.Contains(se.Error(), "damaged") {
		t.Errorf("reply %q, log %q", se.Message, se.Error())
	}
	if res := submit(t, c, meta, readHeader(t, "Subject: hello")); res.Reject {
		t.Errorf("a message that asks for nothing needs no key: %v", res.Reason)
	}
	if res := submit(t, c, &module.MsgMetadata{Conn: stranger}, readHeader(t, "X-Require-TLS: yes")); res.Reject {
		t.Errorf("nor does one that is not admitted: %v", res.Reason)
	}
}

// brokenSource panics.
type brokenSource struct{}

func (brokenSource) Fields() policy.Fields            { panic("broken") }
func (brokenSource) OverrideKey() (policy.Key, error) { panic("broken") }

// maddy would let a message pass whose check panicked.
func TestPanic(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, "", "tls_override {\nallow all\n}")
	c.policy = brokenSource{}
	c.log.Out = log.NopOutput{}
	se := rejection(t, submit(t, c, &module.MsgMetadata{}, readHeader(t, "X-Require-TLS: yes")))
	if se.Code != 451 {
		t.Errorf("got %d", se.Code)
	}
}
