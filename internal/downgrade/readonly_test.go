package downgrade

import (
	"os"
	"testing"
)

// TestReadOnly: a command beside the server sees what the server knows, heeds
// requests to forget, and changes nothing, not even what is damaged.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	d.Proved(mx, pkix)
	d.Proved("gone.example.net", pkix)
	d.Close()
	f, err := os.OpenFile(d.cfg.Path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = f.WriteString("1 half a line\n"); err == nil {
		err = f.Close()
	}
	if err == nil {
		err = Forget(d.cfg.Path, []string{"gone.example.net"})
	}
	before, readErr := os.ReadFile(d.cfg.Path)
	if err != nil || readErr != nil {
		t.Fatal(err, readErr)
	}
	files := len(d.files())

	d.cfg.ReadOnly = true
	d.Memory = Open(d.cfg)
	d.want(mx, Verified)
	if !d.logged("is damaged") {
		t.Error("nothing was said of the damage")
	}
	d.want("gone.example.net", "")
	d.Proved("new.example.net", pkix)
	d.Close()
	if after, err := os.ReadFile(d.cfg.Path); err != nil || string(after) != string(before) || len(d.files()) != files {
		t.Errorf("%v, files %q, now\n%s", err, d.files(), after)
	}
}

// TestReadOnlyOfNothing: a server that was never started is no trouble.
func TestReadOnlyOfNothing(t *testing.T) {
	t.Parallel()
	d := newDesk(t, func(c *Config) { c.ReadOnly = true })
	d.want(mx, "")
	if d.logged("cannot read") {
		t.Error("a file that is not there was complained of")
	}
}
