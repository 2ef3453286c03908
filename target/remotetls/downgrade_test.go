package remotetls

import (
	"path/filepath"
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
