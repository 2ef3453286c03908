//go:build !race

package status

import (
	"path/filepath"
	"testing"
)

// TestAllocations keeps documents cheap: they are written for every recipient.
// The race detector makes sync.Pool forget, so that it cannot be tested there.
// It is not parallel, because allocations are counted for the whole process.
func TestAllocations(t *testing.T) {
	out := openFile(t, filepath.Join(t.TempDir(), "log"))
	l := NewLog(Config{Outputs: []Output{out}, Headers: []string{"message-id", "X-Campaign"}})
	a := deliveredVerified()
	a.Header = testHeader("Message-ID", "<x@example.com>", "X-Campaign", "spring")
	// One is the channel of the batch.
	if got := testing.AllocsPerRun(1000, func() { l.Concluded(a, 0) }); got > 1 {
		t.Errorf("%v allocations for a document, want 1", got)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
