// Package pgtest starts PostgreSQL for tests: a cluster of its own in a directory
// of its own, that only a Unix socket leads to. It needs the programs of the
// server (Debian: package postgresql), and no running service.
package pgtest

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/lib/pq" // the driver
)

// patience is how long a server may take to start.
const patience = time.Minute

// ErrMissing says that PostgreSQL cannot be run here.
var ErrMissing = errors.New("PostgreSQL's server is not there (apt-get install postgresql)")

// Cluster is a server that can be stopped and started, by one goroutine.
type Cluster struct {
	bin, dir string
	owner    *syscall.Credential // nil: who runs the test
	server   *exec.Cmd           // nil while it is stopped
	made     atomic.Int64        // databases
}

// New makes a cluster that lives as long as a test. It skips the test, loudly,
// where PostgreSQL cannot be run.
func New(t testing.TB) *Cluster {
	t.Helper()
	c, err := Open()
	Check(t, err)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// shared is what Shared returns. It is kept beside, for Main to see whether there
// is one.
var (
	shared = sync.OnceValues(func() (*Cluster, error) {
		c, err := Open()
		opened = c
		return c, err
	})
	opened *Cluster
)

// Shared returns a cluster that all tests of a package share, each with a database of
// its own: making one takes seconds. Nobody may stop it. A package that uses it
// calls Main in TestMain.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	c, err := shared()
	Check(t, err)
	return c
}

// Main runs the tests of a package, ends the shared cluster and returns the exit
// code.
func Main(m *testing.M) int {
	code := m.Run()
	if opened != nil {
		if err := opened.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// Check ends a test if Open or Pooler gave an error. Where TLSCONTROL_REAL is "required", as
// in .ci/run, nothing is skipped.
func Check(t testing.TB, err error) {
	t.Helper()
	missing := errors.Is(err, ErrMissing) || errors.Is(err, errNoPooler)
	if missing && os.Getenv("TLSCONTROL_REAL") != "required" {
		t.Skipf("SKIPPED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Open makes a cluster and starts it. Close ends it. The error is ErrMissing
// where PostgreSQL cannot be run.
func Open() (*Cluster, error) {
	bin, ok := programs()
	if !ok {
		return nil, ErrMissing
	}
	// A short name: the path of a socket has 107 bytes.
	dir, err := os.MkdirTemp("", "pg-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{bin: bin, dir: dir}
	if err := c.make(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return c, nil
}

func (c *Cluster) make() error {
	if os.Getuid() == 0 {
		if err := c.becomePostgres(); err != nil {
			return err
		}
	}
	out, err := c.command("initdb", "-D", c.data(), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-N").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return c.Start()
}

// Close stops the server and removes everything.
func (c *Cluster) Close() error {
	return errors.Join(c.Stop(), os.RemoveAll(c.dir))
}

// programs finds the folder of the newest server.
func programs() (string, bool) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), true
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", false
	}
	return filepath.Dir(slices.Max(found)), true
}

// becomePostgres makes programs run as the user postgres: the server refuses to
// run as root.
func (c *Cluster) becomePostgres() error {
	u, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("%w: it does not run as root, and %v", ErrMissing, err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return err
	}
	c.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(c.dir, uid, gid)
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *Cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Dir = c.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.owner}
	return cmd
}

// Start starts the server, if it is not running, and waits until it answers.
func (c *Cluster) Start() error {
	if c.server != nil {
		return nil
	}
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	// What a crash of the machine would cost does not matter here.
	server := c.command("postgres", "-D", c.data(), "-k", c.dir, "-c", "listen_addresses=", "-c", "fsync=off",
		"-c", "logging_collector=off", "-c", "max_connections=200")
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		return err
	}
	c.server = server
	err = c.patiently(func(db *sql.DB) error { return db.Ping() })
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		return errors.Join(fmt.Errorf("PostgreSQL does not start: %w\n%s", err, text), c.Stop())
	}
	return nil
}

// Stop ends the server: connections are cut.
func (c *Cluster) Stop() error {
	if c.server == nil {
		return nil
	}
	server := c.server
	c.server = nil
	// What it calls a fast shutdown.
	return errors.Join(server.Process.Signal(syscall.SIGINT), server.Wait())
}

// Database makes a new database and returns how to connect to it.
func (c *Cluster) Database(t testing.TB) (dsn string) {
	t.Helper()
	name := fmt.Sprintf("test%d", c.made.Add(1))
	// The template is copied by one at a time.
	err := c.patiently(func(db *sql.DB) error {
		_, err := db.Exec("CREATE DATABASE " + name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c.dsn(name)
}

// patiently does something in the database postgres until it succeeds.
func (c *Cluster) patiently(do func(*sql.DB) error) error {
	db, err := sql.Open("postgres", c.dsn("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if err = do(db); err == nil || time.Now().After(end) {
			return err
		}
	}
}

func (c *Cluster) dsn(database string) string {
	return fmt.Sprintf("host=%s user=postgres dbname=%s sslmode=disable", c.dir, database)
}
