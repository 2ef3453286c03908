package pgtest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// errNoPooler is why Pooler skips.
var errNoPooler = errors.New("PgBouncer is not there (apt-get install pgbouncer)")

// Pooler starts PgBouncer before a cluster, in session mode and as docs/scale.md says,
// for as long as a test lasts. It returns how to connect through it to the database of
// a DSN of that cluster. It skips the test, loudly, where there is no PgBouncer.
func (c *Cluster) Pooler(t testing.TB, dsn string) string {
	t.Helper()
	const program = "/usr/sbin/pgbouncer"
	if _, err := os.Stat(program); err != nil {
		Check(t, errNoPooler)
	}
	dir, err := os.MkdirTemp(c.dir, "b-")
	if err != nil {
		t.Fatal(err)
	}
	if c.owner != nil {
		if err := os.Chown(dir, int(c.owner.Uid), int(c.owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	settings := []string{
		"[databases]", "* = host=" + c.dir + " port=5432 user=postgres", "[pgbouncer]", "listen_addr =", "listen_port = 6432",
		"unix_socket_dir = " + dir, "auth_type = any", "logfile = " + filepath.Join(dir, "log"),
		"pool_mode = session", "ignore_startup_parameters = extra_float_digits",
	}
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(strings.Join(settings, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	server := exec.Command(program, file)
	server.SysProcAttr = &syscall.SysProcAttr{Credential: c.owner}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill() // clients are gone
		_ = server.Wait()
	})
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, ".s.PGSQL.6432")); err == nil {
			return strings.Replace(dsn, "host="+c.dir, "host="+dir+" port=6432", 1)
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("PgBouncer does not start\n%s", text)
		}
	}
}
