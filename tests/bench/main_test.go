package bench

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/foxcpp/maddy/framework/log"

	"tlscontrol/tests/bench/sink"
)

// Both targets get the same values. -1 leaves a directive out, so that each
// target has its own default.
var (
	idleCount  = flag.Int("idle", 64, "conn_max_idle_count of both targets, -1 for their defaults")
	reuseLimit = flag.Int("reuse", -1, "conn_reuse_limit of both targets, -1 for their defaults")
)

// world is what all benchmarks share: the sink and a directory.
type world struct {
	*sink.Process
	dir string
}

// path is a file in the directory.
func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// theWorld is set up once, before anything runs.
var theWorld *world

func TestMain(m *testing.M) {
	sink.Main()
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "tlscontrol-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	p, err := sink.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer p.Close()
	theWorld = &world{Process: p, dir: dir}
	if err := os.WriteFile(theWorld.path("ca.pem"), p.Root, 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// What the targets log is part of their work, and nobody reads it here.
	logFile, err := os.Create(theWorld.path("maddy.log"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// Not WriterOutput, which writes to standard error whatever it is given.
	log.DefaultLogger.Out = log.WriteCloserOutput(logFile, true)
	defer func() {
		log.DefaultLogger.Out = log.NopOutput{}
		logFile.Close()
	}()

	code = m.Run()
	results.print(os.Stdout)
	visits.print(os.Stdout)
	doors.print(os.Stdout)
	return code
}
