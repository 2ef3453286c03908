package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tlscontrol/internal/mailtest"
)

// TestDocumentedQueueCommands: what docs/operating.md says about the queue's files works
// on those that maddy writes: they can be asked, a restart alone does not try again, one
// after the command does, and a damaged file is passed over and stays.
func TestDocumentedQueueCommands(t *testing.T) {
	t.Parallel()
	realTool(t, "jq")
	page, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	ask := regexp.MustCompile(`(?m)^jq .*$`).FindString(string(page))
	again := strings.ReplaceAll(regexp.MustCompile(`(?ms)^for m in.*?^done$`).FindString(string(page)), "sudo -u maddy ", "")
	s := newServer(t, mailtest.Behaviour{})
	s.config(blocks{policy: "require_tls yes", endpoints: twoDoors})
	s.start()
	s.mustSubmit(mail{to: []string{"b@example.net"}, anonymous: true, port: atQueue})
	s.documents(1)
	s.logs("will retry") // the first failure is on disk
	in := func(command string) string {
		t.Helper()
		c := exec.Command("sh", "-c", command)
		c.Dir = s.path("state/remote_queue")
		out, err := c.CombinedOutput()
		if err != nil || command == "" {
			t.Fatalf("%q: %v\n%s", command, err, out)
		}
		return string(out)
	}
	if got := in(ask); !strings.Contains(got, `["b@example.net"]`) || !strings.Contains(got, `{"b@example.net":1}`) {
		t.Errorf("the queue says %s", got)
	}
	s.stop()
	in(again)
	if err := os.WriteFile(s.path("state/remote_queue/damaged.meta"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.documents(2)
	s.logs("failed to read meta-data, skipping")
	if _, err := os.Stat(filepath.Join(s.path("state/remote_queue"), "damaged.meta")); err != nil {
		t.Error(err)
	}
}
