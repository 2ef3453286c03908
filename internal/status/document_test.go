package status

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"flag"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

var update = flag.Bool("update", false, "write the golden files")

const schemaFile = "../../docs/delivery-status.schema.json"

// testRand makes ids that do not change.
type testRand byte

func (r testRand) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r) + byte(i)
	}
	return len(p), nil
}

func testOptions() Options {
	return Options{Headers: HeaderNames("Message-ID"), Rand: testRand(0x1f)}
}

func schema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// checkLine fails unless line is one printable line that the schema accepts
// and that decodes to a Document which encodes to the same line.
func checkLine(t testing.TB, s *jsonschema.Schema, line []byte) {
	t.Helper()
	if i := bytes.IndexByte(line, '\n'); i != len(line)-1 {
		t.Fatalf("newline at %d of %d octets: %q", i, len(line), line)
	}
	if !utf8.Valid(line) {
		t.Fatalf("not UTF-8: %q", line)
	}
	for _, r := range string(line[:len(line)-1]) {
		if !unicode.IsPrint(r) {
			t.Fatalf("%U is not escaped in %q", r, line)
		}
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	if err != nil {
		t.Fatalf("not JSON: %v: %q", err, line)
	}
	if err := s.Validate(value); err != nil {
		t.Fatalf("%v\n%s", err, line)
	}
	var d Document
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		t.Fatalf("does not decode: %v: %q", err, line)
	}
	if diff := cmp.Diff(string(line), reference(t, &d)+"\n"); diff != "" {
		t.Fatalf("decoded and encoded again (-was +is):\n%s", diff)
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	s := schema(t)
	for _, c := range goldenCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			line := Append(nil, c.attempt, testOptions())
			checkLine(t, s, line)
			file := filepath.Join("testdata", c.name+".json")
			if *update {
				if err := os.WriteFile(file, line, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(line)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestContractExample reads the example of the operator's page, which is the
// contract, and not a golden file that could follow a mistake.
func TestContractExample(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/delivery-log.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(page)
	if m == nil {
		t.Fatal("no example")
	}
	var want bytes.Buffer
	if err := json.Compact(&want, m[1]); err != nil {
		t.Fatal(err)
	}
	want.WriteByte('\n')
	got := Append(nil, deliveredVerified(), testOptions())
	if diff := cmp.Diff(want.String(), string(got)); diff != "" {
		t.Errorf("(-page +document):\n%s", diff)
	}
}

// TestVocabulary: code, schema and page know the same reasons.
func TestVocabulary(t *testing.T) {
	t.Parallel()
	want := map[string]bool{}
	for _, r := range tlsplan.Reasons() {
		want[string(r)] = true
	}

	raw, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Defs struct {
			Reason struct{ Enum []string }
		} `json:"$defs"`
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	inSchema := map[string]bool{}
	for _, r := range s.Defs.Reason.Enum {
		inSchema[r] = true
	}
	if diff := cmp.Diff(want, inSchema); diff != "" {
		t.Errorf("schema (-code +schema):\n%s", diff)
	}

	page, err := os.ReadFile("../../docs/delivery-log.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "## Reasons\n")
	if !ok {
		t.Fatal("the page has no section Reasons")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	inPage := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\|").FindAllStringSubmatch(section, -1) {
		inPage[m[1]] = true
	}
	if diff := cmp.Diff(want, inPage); diff != "" {
		t.Errorf("page (-code +page):\n%s", diff)
	}
}

// TestPageListsFields: every field of the schema has a row in the page, and
// every row is a field.
func TestPageListsFields(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var s any
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	root := s.(map[string]any)
	root["properties"].(map[string]any)["delivery-status"] = root["$defs"].(map[string]any)["delivery-status"]
	schemaFields("", root, want)

	page, err := os.ReadFile("../../docs/delivery-log.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "## Fields\n")
	section, _, _ = strings.Cut(section, "\n## ")
	got := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9.-]+)` \\|").FindAllStringSubmatch(section, -1) {
		got[m[1]] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-schema +page):\n%s", diff)
	}
}

// schemaFields lists the paths of all leaves.
func schemaFields(prefix string, node map[string]any, out map[string]bool) {
	if items, ok := node["items"].(map[string]any); ok && items["properties"] != nil {
		node = items
	}
	props, ok := node["properties"].(map[string]any)
	if !ok {
		out[prefix] = true
		return
	}
	for name, child := range props {
		schemaFields(strings.TrimPrefix(prefix+"."+name, "."), child.(map[string]any), out)
	}
}

func TestRandomAttempts(t *testing.T) {
	t.Parallel()
	s := schema(t)
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		checkLine(t, s, Append(nil, randomAttempt(r), Options{Headers: HeaderNames("message-id", "X-Campaign")}))
	}
}

func randomAttempt(r *rand.Rand) *delivery.Attempt {
	a := deliveredVerified()
	a.QueueID, a.Sender, a.Recipient, a.Domain = randomText(r), randomText(r), randomText(r), randomText(r)
	a.Number, a.Size = r.IntN(5)-1, r.Int64N(1e7)-10
	a.Header = testHeader("Message-ID", randomText(r), "X-Campaign", randomText(r))
	a.Concluded = time.Unix(0, r.Int64()-math.MaxInt64/4)
	a.Result = pick(r, delivery.Delivered, delivery.Temporary, delivery.Permanent, "")
	a.Reason = pick(r, append(tlsplan.Reasons(), "", "unheard-of")...)
	a.Fallback = pick(r, append(tlsplan.Reasons(), "", "", "unheard-of")...)
	a.Code = r.IntN(1200) - 100
	a.Enhanced = [3]int{r.IntN(7) - 1, r.IntN(10), r.IntN(1100)}
	a.Message, a.Description = randomText(r), randomText(r)
	a.UTF8 = r.IntN(2) == 0
	if r.IntN(4) == 0 {
		a.Settings = nil
	}
	if r.IntN(4) == 0 {
		a.Plan = nil
	} else {
		a.Plan = &tlsplan.Plan{Demand: pick(r, tlsplan.Opportunistic, tlsplan.DemandTLS, tlsplan.DemandVerified, tlsplan.DemandDANE)}
	}
	if r.IntN(4) == 0 {
		a.Settings = &policy.Settings{}
	}
	a.Connection = randomConnection(r)
	a.Hosts = nil
	for range r.IntN(40) {
		a.Hosts = append(a.Hosts, delivery.HostFailure{
			Host: randomText(r), IP: randomIP(r), Reason: pick(r, tlsplan.Reasons()...), Text: randomText(r),
		})
	}
	return a
}

func randomConnection(r *rand.Rand) *delivery.Connection {
	if r.IntN(4) == 0 {
		return nil
	}
	c := &delivery.Connection{
		Host: randomText(r), IP: randomIP(r), LocalIP: randomIP(r), Port: r.IntN(70000),
		Reused: r.IntN(2) == 0, Seconds: pick(r, 0, 0.0004, 1.5, 3e8, -1, math.NaN(), math.Inf(1)),
	}
	o := &c.Outcome
	o.TLS = r.IntN(3) > 0
	o.Version = pick[uint16](r, 0, tls.VersionTLS10, tls.VersionTLS12, tls.VersionTLS13, 0x7f1c)
	o.CipherSuite = pick[uint16](r, 0, tls.TLS_CHACHA20_POLY1305_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA, 0xfefe)
	o.KeyExchange = tls.CurveID(pick(r, 0, 23, 24, 25, 29, 4587, 4588, 999))
	o.Verification = pick(r, "", tlsplan.VerifiedNone, tlsplan.VerifiedPKIX, tlsplan.VerifiedDANEEE, tlsplan.VerifiedDANETA, "odd")
	if r.IntN(2) == 0 {
		o.Problem = &tlsplan.Problem{Reason: pick(r, append(tlsplan.Reasons(), "odd")...), Text: randomText(r)}
	}
	if r.IntN(2) == 0 {
		o.Certificate = &tlsplan.Certificate{Subject: randomText(r), Issuer: randomText(r), NotAfter: time.Unix(r.Int64N(1<<34), 0)}
	}
	return c
}

func randomIP(r *rand.Rand) netip.Addr {
	return pick(r, netip.Addr{}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"),
		netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("fe80::1%weird zone"))
}

func pick[T any](r *rand.Rand, choices ...T) T { return choices[r.IntN(len(choices))] }

// randomText is short or long, and made of octets, characters, or both.
func randomText(r *rand.Rand) string {
	var b strings.Builder
	limit := pick(r, 0, 3, 20, 5000)
	for b.Len() < limit {
		switch r.IntN(4) {
		case 0:
			b.WriteByte(byte(r.UintN(256)))
		case 1:
			b.WriteRune(rune(r.IntN(unicode.MaxRune + 1)))
		case 2:
			b.WriteRune(rune(r.IntN(0x300)))
		default:
			b.WriteString("plain text \"quoted\" ")
		}
	}
	return b.String()
}

func FuzzDocument(f *testing.F) {
	f.Add("OK", "a@example.com", "CN=x", "mx.example", 250)
	f.Add(hostileText(), "\xff@\u2028", "\"", "\\", 550)
	f.Add(strings.Repeat("\x80", 4096), strings.Repeat("é", 600), "\x00", "\U0010ffff", 0)
	s := schema(f)
	f.Fuzz(func(t *testing.T, remote, address, subject, host string, code int) {
		a := severalHosts()
		a.Message, a.Description, a.Hosts[0].Text = remote, remote, remote
		a.Sender, a.Recipient, a.Domain, a.QueueID = address, address, address, address
		a.Connection.Host, a.Hosts[1].Host = host, host
		a.Connection.Outcome.Certificate.Subject = subject
		a.Connection.Outcome.Problem.Text = subject
		a.Header = testHeader("Message-ID", remote)
		a.Code = code
		line := Append(nil, a, testOptions())
		checkLine(t, s, line)
		var d Document
		if err := json.Unmarshal(line, &d); err != nil {
			t.Fatal(err)
		}
		if len(remote) <= maxText && utf8.ValidString(remote) && d.DeliveryStatus.Message != remote {
			t.Errorf("message %q became %q", remote, d.DeliveryStatus.Message)
		}
		var id ID
		id.draw(testRand(0x1f))
		if d.Event != EventFailed || d.ID != id {
			t.Errorf("forged: %s", line)
		}
	})
}

func TestClip(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in    string
		limit int
		want  string
	}{
		{"", 0, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "abc"},
		{"ab\u00e9", 3, "ab"},
		{"a\U0001f600", 4, "a"},
		{"a\U0001f600", 5, "a\U0001f600"},
		{"a\xffb", 9, "a\ufffdb"},
		{"a\xffb", 3, "a"},
		{"\x80\x80\x80\x80\x80\x80", 4, "\ufffd"},
	} {
		if got := clip(c.in, c.limit); got != c.want {
			t.Errorf("clip(%q, %d) = %q, want %q", c.in, c.limit, got, c.want)
		}
	}
}

func TestMessageID(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ field, want string }{
		{"<a@b>", "a@b"},
		{"  <a@b>\t", "a@b"},
		{"a@b", "a@b"},
		{"(c) <a@b>", "a@b"},
		{"<a@b> (c)", "a@b"},
		{"<a@b> <c@d>", "a@b"},
		{"<<a@b>>", "a@b"},
		{"<a <b@c>", "b@c"},
		{"> <a@b>", "a@b"},
		{"<a@b", "<a@b"},
		{"a@b>", "a@b>"},
		{"> <", "> <"},
		{"<>", ""},
	} {
		a := deliveredVerified()
		a.Header = testHeader("Message-ID", c.field)
		if got, _ := new(Builder).Build(a, testOptions()).Message.Headers.Get("message-id"); got != c.want {
			t.Errorf("message-id of %q is %q, want %q", c.field, got, c.want)
		}
	}
}

func TestTimestamp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{time.Unix(1766430000, 0), "1766430000.000000"},
		{time.Unix(1766430000, 999), "1766430000.000000"},
		{time.Unix(1766430000, 50_000_000), "1766430000.050000"},
		{time.Unix(0, 0), "0.000000"},
		{time.Unix(-1, -500_000_000), "-1.500000"},
	} {
		if got := timestamp(c.at).String(); got != c.want {
			t.Errorf("timestamp(%v) = %s, want %s", c.at.UTC(), got, c.want)
		}
	}
}

func TestIDsDiffer(t *testing.T) {
	t.Parallel()
	const n = 1000
	ids := map[ID]bool{}
	for range n {
		var id ID
		id.draw(nil)
		ids[id] = true
	}
	if len(ids) != n {
		t.Errorf("%d of %d ids are different", len(ids), n)
	}
}

// TestSameID: all that is written about one attempt has the attempt's id.
func TestSameID(t *testing.T) {
	t.Parallel()
	a := deliveredVerified()
	a.ID = [16]byte{0xab, 15: 0x01}
	for _, opts := range []Options{testOptions(), {}} {
		if line := Append(nil, a, opts); !bytes.Contains(line, []byte(`"id":"ab000000000000000000000000000001"`)) {
			t.Errorf("%s", line)
		}
	}
}
