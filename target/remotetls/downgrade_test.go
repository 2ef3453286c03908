package remotetls

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/downgrade"
	"tlscontrol/internal/mailtest"
)

func TestDowngradeDirectives(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for lines, want := range map[string]downgrade.Config{
		"":                      {Keep: 30 * day, Action: downgrade.Log},
		"downgrade_memory 1d":   {Keep: day, Action: downgrade.Log},
		"downgrade_memory 36h":  {Keep: 36 * time.Hour, Action: downgrade.Log},
		"downgrade_memory 366d": {Keep: 366 * day, Action: downgrade.Log},
		"downgrade_memory off":  {Action: downgrade.Log},
		"downgrade_memory 0":    {Action: downgrade.Log},
		"downgrade_memory 90d\ndowngrade_action defer": {Keep: 90 * day, Action: downgrade.Defer},
		"downgrade_action off":                         {Keep: 30 * day, Action: downgrade.Off},
	} {
		got := mustLoad(t, nil, quiet+lines).Memory
		if got.Keep != want.Keep || got.Action != want.Action {
			t.Errorf("%q: %v, %s", lines, got.Keep, got.Action)
		}
	}
}

// TestWhereTheMemoryIs: below the state directory, under the name of the block.
func TestWhereTheMemoryIs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if got := (&settings{stateDir: dir}).memory("outbound").Path; got != filepath.Join(dir, "tls_memory", "outbound.hosts") {
		t.Errorf("path %s", got)
	}
	if got := (&settings{stateDir: dir}).memory("").Path; got != "" {
		t.Errorf("path %s of a block without a name", got)
	}
	if got := (&settings{}).memory("outbound").Path; got != "" {
		t.Errorf("path %s without a state directory", got)
	}
}

// TestMemoryThatCannotBeRead: who wants mail held back by it hears at start; who
// wants it told hears in the log; a command beside the server goes on.
func TestMemoryThatCannotBeRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := downgrade.File(dir, "outbound")
	globals := map[string]interface{}{"hostname": "relay.example.com", "state_dir": dir}
	mustLoad(t, globals, quiet+"downgrade_action defer") // there is none yet
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	refused := func(cause string) {
		t.Helper()
		_, err := load(t, globals, quiet+"port 25\ndowngrade_action defer")
		if err == nil {
			t.Fatalf("%s: no error", cause)
		}
		for _, part := range []string{"maddy.conf:6: downgrade_action: unexpected defer", path, cause, "move it away", "choose log"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q is not in: %v", part, err)
			}
		}
		for _, lines := range []string{"downgrade_action log", "downgrade_action off", ""} {
			mustLoad(t, globals, quiet+lines)
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	refused("is not a regular file")
	if err := (&settings{stateDir: dir, downgradeAction: downgrade.Defer}).checkMemory(""); err != nil {
		t.Errorf("a block without a name: %v", err)
	}
	err := os.Remove(path)
	if err == nil {
		err = os.WriteFile(path, nil, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 { // who may read everything
		refused("permission denied")
	}
}

// TestMemoryIsWritten: what a host proved to the target is on disk when it has
// stopped.
func TestMemoryIsWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, mailtest.Behaviour{}, "")
	cert, err := w.ca.Issue(mailtest.Good, "mx1.test")
	if err != nil {
		t.Fatal(err)
	}
	w.mx.Set(mailtest.Behaviour{Certificate: &cert})
	meta := &module.MsgMetadata{ID: "1"}
	if err := w.body(w.begin(meta, "a@example.com", "b@example.net")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	all, _, err := downgrade.Read(downgrade.File(w.dir, "outbound"))
	if err != nil || all["mx1.test"].Level() != downgrade.Verified {
		t.Errorf("%v, %v", all, err)
	}
}
