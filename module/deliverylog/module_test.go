package deliverylog

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/hooks"
	"github.com/foxcpp/maddy/framework/log"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/status"
	"tlscontrol/internal/tlsplan"
)

// operator is what the operator's log and counters see of a module.
type operator struct {
	lost atomic.Int64
	mu   sync.Mutex
	msgs []string
}

func (o *operator) messages() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.msgs...)
}

// start initialises a module from the directives of its block.
func start(t *testing.T, directives string) (*Module, *operator) {
	t.Helper()
	m, op := newModule("deliveries"), &operator{}
	m.onError = func(n int) { op.lost.Add(int64(n)) }
	m.log.Out = log.FuncOutput(func(_ time.Time, _ bool, msg string) {
		op.mu.Lock()
		defer op.mu.Unlock()
		op.msgs = append(op.msgs, strings.TrimSpace(msg))
	}, func() error { return nil })
	if err := m.Init(config.NewMap(nil, block(t, "delivery_log deliveries {\n"+directives+"\n}"))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m, op
}

func attempt(recipient string) *delivery.Attempt {
	return &delivery.Attempt{
		QueueID: "q", Sender: "a@example.com", Recipient: recipient, Domain: "example.net", Number: 1,
		Concluded: time.Now(), Result: delivery.Temporary, Reason: tlsplan.Connect, Code: 451, Message: "later",
	}
}

// recipients reads the documents of a file; each line must be one.
func recipients(t *testing.T, path string) (out []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var d status.Document
		if err := json.Unmarshal([]byte(line), &d); err != nil || !strings.HasSuffix(line, "\n") {
			t.Fatalf("%s: %v: %q", path, err, line)
		}
		out = append(out, d.Recipient)
	}
	return out
}

func TestSeveralOutputs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m, op := start(t, "output file "+dir+"/a\noutput file "+dir+"/b\noutput file /dev/null")
	m.Observer().Concluded(attempt("r@example.net"), 0)
	for _, name := range []string{"a", "b"} {
		if got := recipients(t, filepath.Join(dir, name)); len(got) != 1 || got[0] != "r@example.net" {
			t.Errorf("%s: %q", name, got)
		}
	}
	if err := m.Close(); err != nil || op.lost.Load() != 0 || len(op.messages()) != 0 {
		t.Errorf("close %v, lost %d, log %q", err, op.lost.Load(), op.messages())
	}
}

func TestOff(t *testing.T) {
	t.Parallel()
	m, op := start(t, "output off")
	m.Observer().Concluded(attempt("r@example.net"), 0)
	if err := m.Close(); err != nil || op.lost.Load() != 0 {
		t.Errorf("close %v, lost %d", err, op.lost.Load())
	}
}

// TestRotationHook: after the hook has run, documents go to the new file.
func TestRotationHook(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	m, op := start(t, "output file "+path)
	m.Observer().Concluded(attempt("before@example.net"), 0)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	hooks.RunHooks(hooks.EventLogRotate)
	m.Observer().Concluded(attempt("after@example.net"), 0)
	if got := recipients(t, path+".1"); len(got) != 1 || got[0] != "before@example.net" {
		t.Errorf("old file: %q", got)
	}
	if got := recipients(t, path); len(got) != 1 || got[0] != "after@example.net" {
		t.Errorf("new file: %q", got)
	}
	if len(op.messages()) != 0 {
		t.Errorf("log %q", op.messages())
	}
}

// TestRotationUnderLoad: no document is lost, none is split.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	m, op := start(t, "output file "+path)
	const writers, each, rotations = 8, 50, 5
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				m.Observer().Concluded(attempt(fmt.Sprintf("%d.%d@example.net", w, i)), 0)
			}
		})
	}
	for i := range rotations {
		if err := os.Rename(path, fmt.Sprintf("%s.%d", path, i)); err != nil {
			t.Error(err)
		}
		hooks.RunHooks(hooks.EventLogRotate)
	}
	all.Wait()
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != rotations+1 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	seen := map[string]int{}
	for _, f := range files {
		for _, r := range recipients(t, f) {
			seen[r]++
		}
	}
	for r, n := range seen {
		if n != 1 {
			t.Errorf("%s stands %d times", r, n)
		}
	}
	if len(seen) != writers*each || op.lost.Load() != 0 {
		t.Errorf("%d documents, %d lost", len(seen), op.lost.Load())
	}
}

// TestRotationFails: the old file stays in use and the operator is told.
func TestRotationFails(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "log")
	m, op := start(t, "output file "+path)
	if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	}
	hooks.RunHooks(hooks.EventLogRotate)
	m.Observer().Concluded(attempt("kept@example.net"), 0)
	if got := recipients(t, filepath.Join(dir+".moved", "log")); len(got) != 1 {
		t.Errorf("%q", got)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	// Other tests run maddy's one and only hook too, so the message may come
	// again, but it comes.
	want := "delivery_log: output file " + path + ": cannot reopen, the old file stays in use: open " + path + ": no such file or directory ("
	if msgs := op.messages(); len(msgs) == 0 || !strings.HasPrefix(msgs[0], want) {
		t.Errorf("log %q, want %q", msgs, want)
	}
}

// TestFullDisk: failed writes are counted, the first is reported at once and
// the others together, and the delivery goes on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("SKIPPED: no /dev/full here, so that a full disk is not tested")
	}
	m, op := start(t, "output file /dev/full")
	for range 10 {
		m.Observer().Concluded(attempt("r@example.net"), 0)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if op.lost.Load() != 10 {
		t.Errorf("%d documents counted as lost, want 10", op.lost.Load())
	}
	total := 0
	for _, msg := range op.messages() {
		var n int
		var noun string
		if _, err := fmt.Sscanf(msg, "delivery_log: output file /dev/full: %d %s lost: write /dev/full: no space left on device", &n, &noun); err != nil {
			t.Errorf("%v: %q", err, msg)
		}
		total += n
	}
	// One at once, one at Close; both are the same if the first was slow.
	if total != 10 || len(op.messages()) > 2 {
		t.Errorf("log %q", op.messages())
	}
}

// TestStuckPipe: nobody reads the pipe. Start and deliveries go on, the other
// output gets everything, and Close comes back.
func TestStuckPipe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skipf("SKIPPED: no named pipes here: %v", err)
	}
	m, op := start(t, "output file "+pipe+"\noutput file "+dir+"/log")
	const total = 400 // beyond the 64 KiB a pipe holds
	for i := range total {
		m.Observer().Concluded(attempt(fmt.Sprintf("%d@example.net", i)), 0)
	}
	if got := len(recipients(t, filepath.Join(dir, "log"))); got != total {
		t.Errorf("%d documents in the file", got)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if op.lost.Load() == 0 || len(op.messages()) == 0 {
		t.Errorf("lost %d, log %q", op.lost.Load(), op.messages())
	}
}

// TestHeaders: the configured fields are copied.
func TestHeaders(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	m, _ := start(t, "output file "+path+"\nheaders X-Campaign Subject")
	a := attempt("r@example.net")
	a.Header.Add("X-Campaign", "spring")
	a.Header.Add("Message-ID", "<m@example.com>")
	m.Observer().Concluded(a, 0)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := `"message":{"headers":{"x-campaign":"spring"}}`; !strings.Contains(string(text), want) {
		t.Errorf("%s does not contain %s", text, want)
	}
}

func TestCloseBeforeInit(t *testing.T) {
	t.Parallel()
	if err := newModule("").Close(); err != nil {
		t.Error(err)
	}
}

func TestDefault(t *testing.T) {
	t.Parallel()
	m := Default()
	if m.Observer() == nil || m.InstanceName() != "" {
		t.Errorf("%+v", m)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
