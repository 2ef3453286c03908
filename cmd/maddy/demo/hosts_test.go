package demo

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTable reads the promises of the twenty cells back in other words.
func TestTable(t *testing.T) {
	t.Parallel()
	want := map[string][4]string{
		"no-starttls":      {"clear, 1", "clear, 1", "451 4.7.4", "451 4.7.4"},
		"refuses-starttls": {"clear, 1", "clear, 1", "451 4.7.4", "451 4.7.4"},
		"breaks-handshake": {"clear, 2", "clear, 2", "451 4.7.5", "451 4.7.5"},
		"bad-certificate":  {"clear, 2", "unverified, 1", "451 4.7.5", "unverified, 1"},
		"good-certificate": {"verified, 1", "verified, 1", "verified, 1", "verified, 1"},
	}
	got := make(map[string][4]string)
	for _, h := range hosts {
		var cells [4]string
		for i, cell := range h.cells {
			cells[i] = inShort(cell)
		}
		got[h.name] = cells
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func inShort(w want) string {
	switch {
	case w.event != "delivered":
		return fmt.Sprintf("%d %s", w.code, w.enhanced)
	case w.verified:
		return fmt.Sprintf("verified, %d", w.connections)
	case w.tls:
		return fmt.Sprintf("unverified, %d", w.connections)
	default:
		return fmt.Sprintf("clear, %d", w.connections)
	}
}

// TestScenes: rows that hold for every row, whatever its host.
func TestScenes(t *testing.T) {
	t.Parallel()
	titles := make(map[string]bool)
	for _, h := range hosts {
		for _, sc := range h.scenes() {
			name := h.name + ": " + sc.title()
			if titles[name] {
				t.Errorf("%s: twice", name)
			}
			titles[name] = true
			w := sc.want
			if sc.wants.require && w.event == "delivered" && !w.tls {
				t.Errorf("%s: in clear, although TLS is required", name)
			}
			if sc.wants.demanded() == "verified" && w.event == "delivered" && !w.verified {
				t.Errorf("%s: unverified, although that is demanded", name)
			}
			if (w.event == "failed") != (w.reason != "" && w.severity != "") {
				t.Errorf("%s: %q, severity %q, reason %q", name, w.event, w.severity, w.reason)
			}
			if len(columns("", sc.title(), "", "")) > 4+askedWidth {
				t.Errorf("%s: too long for its column", name)
			}
		}
	}
	if len(titles) != total() {
		t.Errorf("%d rows, %d in total", len(titles), total())
	}
}
