package tlspolicy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOverrideKey(t *testing.T) {
	t.Parallel()
	m := mustLoad(t, "tls_policy p")
	file := filepath.Join(m.stateDir, "tls_override.key")

	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the key was made before it was needed: %v", err)
	}
	if err := os.WriteFile(file, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.OverrideKey(); err == nil || !strings.Contains(err.Error(), file+": damaged") {
		t.Errorf("damaged key: %v", err)
	}
	// After an error the next call tries again.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	k, err := m.OverrideKey()
	if err != nil {
		t.Fatal(err)
	}
	// After success the file is not needed any more.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if again, err := m.OverrideKey(); err != nil || again != k {
		t.Errorf("another key the second time, %v", err)
	}
}

// Two blocks of one maddy, one in the check and one in the target, have one key.
func TestBlocksShareTheKey(t *testing.T) {
	t.Parallel()
	a, b := mustLoad(t, "tls_policy a"), mustLoad(t, "tls_policy b")
	b.stateDir = a.stateDir
	ka, err := a.OverrideKey()
	if err != nil {
		t.Fatal(err)
	}
	if kb, err := b.OverrideKey(); err != nil || kb != ka {
		t.Errorf("another key, %v", err)
	}
}

// Tests do not set maddy's global state directory, so it is empty here.
func TestNoStateDirectory(t *testing.T) {
	t.Parallel()
	if _, err := BuiltIn().OverrideKey(); err == nil || err.Error() != "no state directory to keep the override key in" {
		t.Errorf("got %v", err)
	}
}
