package mtasts

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"tlscontrol/internal/mailtest"
)

// badDisk is a disk on which files of policies cannot be read, for a while.
type badDisk struct {
	cause atomic.Pointer[error] // nil: it is well
}

func (d *badDisk) fails(err error) { d.cause.Store(&err) }
func (d *badDisk) mend()           { d.cause.Store(nil) }

func (d *badDisk) read(path string) ([]byte, error) {
	if cause := d.cause.Load(); cause != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: *cause}
	}
	return readFile(path)
}

// newUnreadable is a world with a policy of example.net on a disk that fails, and a
// cache that was started over it. The policy host is down.
func newUnreadable(t *testing.T, cause error) (w *world, c *Cache, d *badDisk, dir string) {
	t.Helper()
	w, d, dir = newWorld(t), &badDisk{}, t.TempDir()
	w.publish("example.net", "1", page("mx.example.net"))
	c = w.cache(in(dir))
	wantPolicy(t, c, "example.net", "mx.example.net")
	c.Close()
	w.host.Serve("example.net", mailtest.STSPage{Status: 500})
	d.fails(cause)
	return w, w.cache(in(dir), func(cfg *Config) { cfg.read = d.read }), d, dir
}

// wantUnread looks a domain up and wants mail to it to wait.
func wantUnread(t *testing.T, c *Cache, domain string, kind Kind) {
	t.Helper()
	if r := wantNone(t, c, domain, kind); r.Unread == nil || !strings.Contains(r.Unread.Error(), domain+".json") ||
		strings.Contains(r.Err.Error(), ".json") { // goes into reports to strangers
		t.Errorf("%+v", r)
	}
}

// A policy that is on disk and cannot be read is not none: mail waits, as long as
// the policy can neither be read nor fetched.
func TestUnreadPolicy(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{fs.ErrPermission, syscall.EIO} {
		t.Run(cause.Error(), func(t *testing.T) {
			t.Parallel()
			w, c, d, dir := newUnreadable(t, cause)
			if w.log.count("MTA-STS policies on disk cannot be read") != 1 || w.log.count("domains=example.net") != 1 {
				t.Error("the start says nothing of it")
			}
			wantUnread(t, c, "example.net", FetchError)
			c.upkeep()
			wantUnread(t, c, "example.net", FetchError)
			// Other domains are as ever.
			w.publish("other.example", "1", mailtest.STSPage{Status: 500})
			if r := wantNone(t, c, "other.example", FetchError); r.Unread != nil {
				t.Error(r.Unread)
			}
			wantNone(t, c, "none.example", "")
			if _, err := os.Stat(policyFile(dir, "example.net")); err != nil {
				t.Error(err) // it is not damaged
			}
			d.mend()
			c.upkeep()
			eventually(t, "it is read", func() bool { return lookup(t, c, "example.net").Policy != nil })
			wantPolicy(t, c, "example.net", "mx.example.net")
			if w.log.count("no longer one that cannot be read") != 1 {
				t.Error("nothing is said of the end")
			}
		})
	}
}

// What DNS says, and what it does not say, ends no policy: a record that is gone may
// be hidden.
func TestUnreadPolicyAndItsRecord(t *testing.T) {
	t.Parallel()
	w, c, _, _ := newUnreadable(t, fs.ErrPermission)
	w.dns.Remove("_mta-sts.example.net")
	w.dns.TXT("_mta-sts.example.net", "v=STSv1; id=!;")
	wantUnread(t, c, "example.net", Invalid)
	w.dns.Remove("_mta-sts.example.net")
	wantUnread(t, c, "example.net", Internal)
	w.announce("example.net", "1")
	wantUnread(t, c, "example.net", FetchError)
	w.dns.Close()
	wantUnread(t, c, "example.net", DNS)
}

// A policy that can be fetched takes the place of the one that cannot be read, also
// on disk.
func TestUnreadPolicyIsFetched(t *testing.T) {
	t.Parallel()
	w, c, d, dir := newUnreadable(t, fs.ErrPermission)
	w.host.Serve("example.net", page("new.example.net"))
	if r := wantPolicy(t, c, "example.net", "new.example.net"); r.Err != nil {
		t.Error(r.Err)
	}
	c.Close()
	d.mend()
	c = w.cache(in(dir))
	wantPolicy(t, c, "example.net", "new.example.net")
	w.wantFetches(2)
}

// An operator who removes the file wants the policy forgotten; one that turns out
// to be damaged is set aside as others are.
func TestUnreadPolicyIsGone(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(path string) error{
		"removed": os.Remove,
		"damaged": func(path string) error { return os.WriteFile(path, []byte("garbage"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, c, d, dir := newUnreadable(t, fs.ErrPermission)
			wantUnread(t, c, "example.net", FetchError)
			path := policyFile(dir, "example.net")
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			d.mend()
			c.upkeep()
			eventually(t, "mail goes", func() bool { return lookup(t, c, "example.net").Unread == nil })
			_, err := os.Stat(path + ".bad")
			if (name == "damaged") != (err == nil) {
				t.Error(err)
			}
		})
	}
}

// blind is a file in a directory of which only names can be read.
type blind struct{ fs.DirEntry }

func (b blind) Info() (fs.FileInfo, error) {
	return nil, &fs.PathError{Op: "lstat", Path: b.Name(), Err: fs.ErrPermission}
}

// A file of which nothing but the name is known may hold a policy.
func TestUnreadDirectory(t *testing.T) {
	t.Parallel()
	_, c, _, dir := newUnreadable(t, fs.ErrPermission)
	entries, err := os.ReadDir(filepath.Dir(policyFile(dir, "example.net")))
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		entries[i] = blind{entries[i]}
	}
	if got := c.disk.sorted(entries); !slices.Equal(got, []string{"example.net.json"}) {
		t.Errorf("files %q", got)
	}
}

// TestUnreadablePermissions is what happens on a real disk.
func TestUnreadablePermissions(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	w := newWorld(t)
	dir := t.TempDir()
	w.publish("example.net", "1", page("mx.example.net"))
	c := w.cache(in(dir))
	wantPolicy(t, c, "example.net", "mx.example.net")
	c.Close()
	w.host.Serve("example.net", mailtest.STSPage{Status: 500})
	if err := os.Chmod(policyFile(dir, "example.net"), 0); err != nil {
		t.Fatal(err)
	}
	c = w.cache(in(dir))
	wantUnread(t, c, "example.net", FetchError)
	c.Close()
	below := filepath.Join(dir, "policies")
	t.Cleanup(func() { _ = os.Chmod(below, 0o700) })
	// Names can be read, and nothing else.
	if err := os.Chmod(below, 0o600); err != nil {
		t.Fatal(err)
	}
	c = w.cache(in(dir))
	wantUnread(t, c, "example.net", FetchError)
	c.Close()
	// The directory as a whole cannot be waited for: nobody knows what is in it.
	if err := os.Chmod(below, 0); err != nil {
		t.Fatal(err)
	}
	if r := wantNone(t, w.cache(in(dir)), "example.net", FetchError); r.Unread != nil {
		t.Error(r.Unread)
	}
	if w.log.count("mail goes as if domains had none") != 1 {
		t.Error("the log does not say so")
	}
}

// silentDNS answers no question for a TXT record: it tells that one was asked, and
// fails when it is let go.
type silentDNS struct {
	Resolver
	asked, give chan struct{}
}

func (r silentDNS) TXT(ctx context.Context, _ string) ([]string, error) {
	close(r.asked)
	select {
	case <-r.give:
		return nil, errors.New("no answer")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Who asks while the policy cannot be read yet, and hears in the end that it cannot
// be fetched, must not take it for none because it could be read meanwhile.
func TestUnreadPolicyIsReadMeanwhile(t *testing.T) {
	t.Parallel()
	w, c, d, dir := newUnreadable(t, fs.ErrPermission)
	c.Close()
	dns := silentDNS{asked: make(chan struct{}), give: make(chan struct{})}
	c = w.cache(in(dir), func(cfg *Config) {
		dns.Resolver = cfg.Resolver
		cfg.read, cfg.Resolver = d.read, dns
	})
	found := make(chan Result, 1)
	go func() { found <- lookup(t, c, "example.net") }()
	<-dns.asked
	d.mend()
	c.upkeep()
	eventually(t, "it is read", func() bool { return len(c.unread.domains()) == 0 })
	close(dns.give)
	if r := <-found; r.Policy == nil && r.Unread == nil {
		t.Errorf("mail goes as if there were no policy: %+v", r)
	}
}
