package downgrade

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tlscontrol/internal/tlsplan"
)

// hang ends a test that would hang; nothing asserts how long things take.
const hang = 60 * time.Second

// desk is a Memory with a clock, a log and a file.
type desk struct {
	*testing.T
	cfg   Config
	clock atomic.Int64 // seconds after noon
	mu    sync.Mutex
	log   bytes.Buffer
	*Memory
}

const mx = "mx1.example.net"

var (
	opportunistic = tlsplan.Plan{Demand: tlsplan.Opportunistic}
	pkix          = verified(tlsplan.VerifiedPKIX)
)

func newDesk(t *testing.T, change func(*Config)) *desk {
	t.Helper()
	d := &desk{T: t}
	d.cfg = Config{
		Path: File(t.TempDir(), "outbound"), Keep: 30 * 24 * time.Hour, Action: Log,
		Log:      slog.New(slog.NewTextHandler(d, nil)),
		Interval: time.Millisecond,
		Now:      func() time.Time { return noon.Add(time.Duration(d.clock.Load()) * time.Second) },
	}
	if change != nil {
		change(&d.cfg)
	}
	d.Memory = Open(d.cfg)
	t.Cleanup(func() { d.Close() })
	return d
}

// Write implements io.Writer for the log.
func (d *desk) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.Write(b)
}

func (d *desk) logged(what string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Contains(d.log.String(), what)
}

func (d *desk) sleep(by time.Duration) { d.clock.Add(int64(by / time.Second)) }

func (d *desk) Close() {
	if d.Memory != nil {
		d.Memory.Close()
		d.Memory = nil
	}
}

// restart ends the memory and begins anew with its file.
func (d *desk) restart() {
	d.Close()
	d.Memory = Open(d.cfg)
}

func (d *desk) level(host string) Level { return d.Expected(host, opportunistic).Level }

func (d *desk) want(host string, want Level) {
	d.Helper()
	if got := d.level(host); got != want {
		d.Errorf("%s: %q is expected, want %q", host, got, want)
	}
}

func (d *desk) eventually(what string, holds func() bool) {
	d.Helper()
	deadline := time.Now().Add(hang)
	for !holds() {
		if time.Now().After(deadline) {
			d.Fatalf("never came true: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// files lists what is in the memory's directory.
func (d *desk) files() (names []string) {
	entries, err := os.ReadDir(filepath.Dir(d.cfg.Path))
	if err != nil && !os.IsNotExist(err) {
		d.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestRestart: evidence survives, to the second, and is not there twice.
func TestRestart(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	d.Proved(mx, pkix)
	d.Proved("self.example.net", unverified())
	d.Proved("clear.example.net", inClear(tlsplan.TLSNotOffered))
	d.sleep(90 * time.Minute)
	d.Proved("self.example.net", unverified())
	for range 2 {
		d.restart()
		if diff := cmp.Diff(Expectation{Verified, tlsplan.VerifiedPKIX, noon}, d.Expected(mx, opportunistic)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(Expectation{TLS, "", noon.Add(90 * time.Minute)}, d.Expected("self.example.net", opportunistic)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		d.want("clear.example.net", "")
	}
	info, err := os.Stat(d.cfg.Path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if diff := cmp.Diff([]string{"outbound.hosts"}, d.files()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestKilled: what was proved is on disk behind the delivery, without Close.
func TestKilled(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	d.Proved(mx, pkix)
	d.eventually("it is on disk", func() bool {
		all, _, err := Read(d.cfg.Path)
		return err == nil && all[mx].Level() == Verified
	})
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	d.Proved(mx, pkix)
	d.sleep(20 * 24 * time.Hour)
	d.Proved(mx, unverified())
	d.want(mx, Verified)
	d.sleep(10*24*time.Hour + time.Second)
	d.want(mx, TLS)
	d.restart()
	d.want(mx, TLS)
	d.sleep(20 * 24 * time.Hour)
	d.want(mx, "")
	d.restart()
	d.want(mx, "")
}

// TestClockAhead: evidence noted under a clock that was wrong gets as old as any.
func TestClockAhead(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	d.sleep(10 * 365 * 24 * time.Hour)
	d.Proved(mx, pkix)
	d.Close()
	d.clock.Store(0)
	d.restart()
	d.want(mx, Verified)
	if got := d.Expected(mx, opportunistic).LastSeen; !got.Equal(noon) {
		t.Errorf("last seen %v", got)
	}
	d.sleep(31 * 24 * time.Hour)
	d.want(mx, "")
}

// TestBounded: those who proved something longest ago go first.
func TestBounded(t *testing.T) {
	t.Parallel()
	d := newDesk(t, func(c *Config) { c.MaxHosts, c.Interval = 10, time.Hour })
	for i := range 25 {
		d.Proved(fmt.Sprintf("mx%d.test", i), pkix)
		d.sleep(time.Hour)
		d.Proved("mx0.test", pkix)
	}
	for range 2 {
		d.want("mx0.test", Verified)
		d.want("mx15.test", "")
		d.want("mx16.test", Verified)
		d.want("mx24.test", Verified)
		d.restart()
	}
}

// TestJournalIsShort: however often hosts prove the same, the file stays small.
func TestJournalIsShort(t *testing.T) {
	t.Parallel()
	d := newDesk(t, func(c *Config) { c.Interval = time.Hour })
	for range 3 * slack {
		d.sleep(time.Hour)
		d.Proved(mx, pkix)
		d.turn(false)
	}
	text, err := os.ReadFile(d.cfg.Path)
	if lines := bytes.Count(text, []byte("\n")); err != nil || lines > slack+2 {
		t.Errorf("%d lines, %v", lines, err)
	}
	d.restart()
	d.want(mx, Verified)
}

func TestForgetWhileRunning(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	d.Proved(mx, pkix)
	d.Proved("mx2.example.net", pkix)
	d.eventually("it is on disk", func() bool { all, _, _ := Read(d.cfg.Path); return len(all) == 2 })
	if err := Forget(d.cfg.Path, []string{mx, "mx9.example.net"}); err != nil {
		t.Fatal(err)
	}
	// Who asks sees it at once.
	if all, _, err := Read(d.cfg.Path); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
	d.eventually("it is forgotten", func() bool { return d.level(mx) == "" })
	d.eventually("the request is done with", func() bool { return len(d.files()) == 1 })
	d.want("mx2.example.net", Verified)
	if !d.logged("forgot what a host proved, as asked") || d.logged("mx9") {
		t.Errorf("log:\n%s", d.log.String())
	}
	// It may prove it again.
	d.Proved(mx, unverified())
	d.want(mx, TLS)
	d.restart()
	d.want(mx, TLS)
	d.want("mx2.example.net", Verified)
}

// TestForgetBeforeTheStart: nobody needs to be there who listens.
func TestForgetBeforeTheStart(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	d.Proved(mx, pkix)
	d.Proved("mx2.example.net", pkix)
	d.Close()
	for _, h := range []string{mx, "mx2.example.net"} {
		if err := Forget(d.cfg.Path, []string{h}); err != nil {
			t.Fatal(err)
		}
	}
	d.restart()
	d.want(mx, "")
	d.want("mx2.example.net", "")
	d.eventually("the requests are done with", func() bool { return len(d.files()) == 1 })
}

// TestOddRequests: whatever lies there is not what makes maddy stop.
func TestOddRequests(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	d.Proved(mx, pkix)
	d.Close()
	for name, text := range map[string]string{
		"1": "", "2": "MX1.example.net\n../../etc/passwd\n\x00\n", "3": "mx7.example.net",
	} {
		if err := os.WriteFile(d.cfg.Path+requestMark+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(d.cfg.Path+requestMark+"4", 0o700); err != nil {
		t.Fatal(err)
	}
	d.restart()
	d.want(mx, Verified)
	d.eventually("files are done with", func() bool { return len(d.files()) == 2 })
}

// TestDamage: what can be read counts, the rest is set aside for a look.
func TestDamage(t *testing.T) {
	t.Parallel()
	good := string(appendLine(nil, record{mx, Evidence{noon, noon, tlsplan.VerifiedPKIX}}))
	other := string(appendLine(nil, record{"mx2.example.net", Evidence{TLS: noon}}))
	for name, tt := range map[string]struct {
		text   string
		aside  bool
		levels [2]Level
	}{
		"whole":           {good + other, false, [2]Level{Verified, TLS}},
		"empty":           {"", false, [2]Level{}},
		"torn":            {other + good[:len(good)-1], false, [2]Level{"", TLS}},
		"a changed octet": {strings.Replace(good, "pkix", "pkiy", 1) + other, true, [2]Level{"", TLS}},
		"another host":    {strings.Replace(good, "mx1", "mx3", 1) + other, true, [2]Level{"", TLS}},
		"zeros":           {good + strings.Repeat("\x00", 5000) + "\n" + other, true, [2]Level{Verified, TLS}},
		"an endless line": {good + strings.Repeat("x", 100_000), true, [2]Level{Verified, ""}},
		"another file":    {"root:x:0:0\n" + good + "\n", true, [2]Level{Verified, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, nil)
			d.Close()
			if err := os.MkdirAll(filepath.Dir(d.cfg.Path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(d.cfg.Path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time the file is whole
				d.restart()
				d.want(mx, tt.levels[0])
				d.want("mx2.example.net", tt.levels[1])
			}
			aside, err := os.ReadFile(d.cfg.Path + ".damaged")
			if tt.aside != (err == nil) || tt.aside != d.logged("damaged") {
				t.Errorf("set aside: %v; log:\n%s", err, d.log.String())
			}
			if tt.aside && string(aside) != tt.text {
				t.Error("what was set aside is not what was there")
			}
			d.Proved("mx4.example.net", pkix)
			d.restart()
			d.want("mx4.example.net", Verified)
			d.want("mx2.example.net", tt.levels[1])
		})
	}
}

// TestDamageAndKilled: whenever the server is killed after it found damage, what
// could be read is there at the next start, and a command beside it sees it.
func TestDamageAndKilled(t *testing.T) {
	t.Parallel()
	damage := func(t *testing.T) *desk {
		d := newDesk(t, func(c *Config) { c.Interval = time.Hour })
		d.Proved(mx, pkix)
		d.Close()
		text, err := os.ReadFile(d.cfg.Path)
		if err == nil {
			err = os.WriteFile(d.cfg.Path, append(text, "garbage\n"...), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	t.Run("after the start", func(t *testing.T) {
		t.Parallel()
		d := damage(t)
		d.Memory = Open(d.cfg) // killed before anything is due
		if all, damaged, err := Read(d.cfg.Path); err != nil || damaged != 0 || all[mx].Level() != Verified {
			t.Errorf("on disk: %v, %d lines damaged, %v", all, damaged, err)
		}
		if _, err := os.Stat(d.cfg.Path + ".damaged"); err != nil {
			t.Error(err)
		}
		again := Open(d.cfg)
		defer again.Close()
		if got := again.Expected(mx, opportunistic).Level; got != Verified {
			t.Errorf("%q is expected after the next start", got)
		}
	})
	t.Run("the rescued part cannot be written", func(t *testing.T) {
		t.Parallel()
		d := damage(t)
		if err := os.Mkdir(d.cfg.Path+".new", 0o700); err != nil {
			t.Fatal(err)
		}
		d.Memory = Open(d.cfg)
		d.want(mx, Verified)
		if all, damaged, err := Read(d.cfg.Path); err != nil || damaged != 1 || all[mx].Level() != Verified {
			t.Errorf("on disk: %v, %d lines damaged, %v", all, damaged, err)
		}
		if !d.logged("cannot write down what hosts proved") {
			t.Errorf("log:\n%s", d.log.String())
		}
	})
	t.Run("nothing can be set aside", func(t *testing.T) {
		t.Parallel()
		d := damage(t)
		if err := os.Mkdir(d.cfg.Path+".damaged", 0o700); err != nil {
			t.Fatal(err)
		}
		d.Memory = Open(d.cfg)
		if all, damaged, err := Read(d.cfg.Path); err != nil || damaged != 0 || all[mx].Level() != Verified {
			t.Errorf("on disk: %v, %d lines damaged, %v", all, damaged, err)
		}
		if !d.logged("is a directory") {
			t.Errorf("log:\n%s", d.log.String())
		}
	})
}

// TestBadDisk: a log line, and everything goes on in memory.
func TestBadDisk(t *testing.T) {
	t.Parallel()
	t.Run("no directory can be made", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, nil)
		d.Close()
		if err := os.WriteFile(filepath.Dir(d.cfg.Path), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		d.restart()
		d.Proved(mx, pkix)
		d.want(mx, Verified)
		d.eventually("it is logged", func() bool { return d.logged("level=ERROR") })
		// It is told once, and not tried every moment.
		d.Close()
		if n := strings.Count(d.log.String(), "level=ERROR"); n != 1 {
			t.Errorf("%d lines:\n%s", n, d.log.String())
		}
	})
	t.Run("the file is a directory", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, nil)
		d.Close()
		if err := os.MkdirAll(d.cfg.Path, 0o700); err != nil {
			t.Fatal(err)
		}
		d.restart()
		d.Proved(mx, pkix)
		d.want(mx, Verified)
		if !d.logged("is not a regular file") || !d.logged("a downgrade would not be seen") || Check(d.cfg.Path) == nil {
			t.Errorf("log:\n%s", d.log.String())
		}
	})
	t.Run("the disk fails for a while", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, func(c *Config) { c.Interval = time.Hour })
		dir := filepath.Dir(d.cfg.Path)
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		d.Proved(mx, pkix)
		d.turn(false)
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		d.turn(false)
		if len(d.files()) != 0 {
			t.Error("tried again at once")
		}
		d.sleep(tryAgain)
		d.turn(false)
		if all, _, err := Read(d.cfg.Path); err != nil || len(all) != 1 {
			t.Errorf("%v, %v", all, err)
		}
	})
	t.Run("somebody removes the file", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, func(c *Config) { c.Interval = time.Hour })
		d.Proved(mx, pkix)
		d.turn(false)
		if err := os.RemoveAll(filepath.Dir(d.cfg.Path)); err != nil {
			t.Fatal(err)
		}
		d.Proved("mx2.example.net", pkix)
		d.turn(false)
		if all, _, err := Read(d.cfg.Path); err != nil || len(all) != 2 {
			t.Errorf("%v, %v", all, err)
		}
	})
}

// TestNothing: who wants no memory has none, and nothing breaks.
func TestNothing(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{}, {Keep: time.Hour, Action: Off}, {Keep: time.Hour}, {Action: Defer}} {
		m := Open(cfg)
		m.Proved(mx, pkix)
		if m != nil || m.Expected(mx, opportunistic) != (Expectation{}) || m.Action() != Off {
			t.Errorf("%+v remembers", cfg)
		}
		m.Close()
	}
}

// TestNoFile: a target without a name remembers as long as it lives.
func TestNoFile(t *testing.T) {
	t.Parallel()
	d := newDesk(t, func(c *Config) { c.Path = "" })
	d.Proved(mx, pkix)
	d.want(mx, Verified)
	d.Close()
}

func TestOddHosts(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	for _, h := range []string{"", "a b", "a\nb", "MX1.example.net", "mx.\xe4.example", strings.Repeat("a", maxHost+1)} {
		d.Proved(h, pkix)
		d.want(h, "")
	}
}

// TestTell: a host is spoken of once an hour.
func TestTell(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	d.Proved(mx, pkix)
	for _, want := range []bool{true, false, false} {
		if got := d.Tell(mx); got != want {
			t.Errorf("told %v, want %v", got, want)
		}
	}
	d.sleep(tellAgain)
	if !d.Tell(mx) || d.Tell("mx2.example.net") {
		t.Error("an hour later")
	}
	d.want(mx, Verified)
}

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	names := []string{"outbound", "..", "a/b", "a.hosts", "a.hosts.forget-1", "ä b", "*"}
	for _, name := range names {
		path := File(dir, name)
		if filepath.Dir(path) != filepath.Join(dir, Dir) {
			t.Errorf("%q is in %s", name, path)
		}
		if err := replaceFile(path, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, stray := range []string{"x.hosts.damaged", "x.hosts.new", ".request-1", "x.hosts.forget-1", "%zz.hosts", "a.b.hosts"} {
		if err := os.WriteFile(filepath.Join(dir, Dir, stray), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Targets(dir)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	slices.Sort(got)
	if diff := cmp.Diff(names, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, err := Targets(t.TempDir()); len(got) != 0 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// TestManyAtOnce is for the race detector.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	d := newDesk(t, func(c *Config) { c.MaxHosts = 20 })
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 200 {
				h := fmt.Sprintf("mx%d.test", (i+n)%30)
				d.Expected(h, opportunistic)
				d.Proved(h, pkix)
				d.Tell(h)
				if n%50 == 0 {
					if err := Forget(d.cfg.Path, []string{h}); err != nil && !os.IsNotExist(err) {
						t.Error(err)
					}
				}
				d.sleep(time.Minute)
			}
		})
	}
	all.Wait()
}

// TestKnownHostsCostNothing is not parallel: allocations are counted for the
// whole process.
func TestKnownHostsCostNothing(t *testing.T) {
	d := newDesk(t, func(c *Config) { c.Path, c.Log = "", nil })
	d.Proved(mx, pkix)
	if n := testing.AllocsPerRun(1000, func() {
		x := d.Expected(mx, opportunistic)
		d.Proved(mx, pkix)
		if !x.Met(pkix) {
			t.Error("not met")
		}
		x.Raise(opportunistic)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
