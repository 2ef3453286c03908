package delivery_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"tlscontrol/internal/mailtest"
)

// numbered returns the addresses r0, r1, ... at example.net.
func numbered(n int) (to []string) {
	for i := range n {
		to = append(to, fmt.Sprintf("r%d@example.net", i))
	}
	return to
}

// tally counts how often each status was given.
func tally(t *testing.T, statuses map[string]error) map[string]int {
	t.Helper()
	n := make(map[string]int)
	for _, err := range statuses {
		n[code(failure(t, err))]++
	}
	return n
}

// commands counts the command lines of a session that begin with verb.
func commands(s mailtest.Session, verb string) (n int) {
	for _, line := range s.Commands {
		if strings.HasPrefix(line[len("C: "):], verb) {
			n++
		}
	}
	return n
}

// TestRefusedBatch: where all recipients of a transaction are refused over BDAT
// the session is over; those of the next transactions are reached over another.
func TestRefusedBatch(t *testing.T) {
	t.Parallel()
	const refused, other = "550 5.1.1 rcpt-rejected", "452 4.2.2 rcpt-rejected"
	for _, tt := range []struct {
		name     string
		keywords []string
		all      int // recipients
		reject   func(i int) string
		want     map[string]int
	}{
		{"the first hundred", nil, 150, func(i int) string {
			if i < 100 {
				return "550 5.1.1 no such user"
			}
			return ""
		}, map[string]int{refused: 100, "delivered": 50}},
		{"everybody, in two ways", nil, 150, func(i int) string {
			if i < 100 {
				return "550 5.1.1 no such user"
			}
			return "452 4.2.2 full"
		}, map[string]int{refused: 100, other: 50}},
		{"the second hundred", nil, 250, func(i int) string {
			if i/100 == 1 {
				return "550 5.1.1 no such user"
			}
			return ""
		}, map[string]int{refused: 100, "delivered": 150}},
		{"one at a time", []string{"PIPELINING", "CHUNKING", "LIMITS RCPTMAX=1"}, 50, func(i int) string {
			if i%2 == 0 {
				return "550 5.1.1 no such user"
			}
			return ""
		}, map[string]int{refused: 25, "delivered": 25}},
		{"one at a time, with DATA", []string{"PIPELINING", "LIMITS RCPTMAX=1"}, 50, func(i int) string {
			if i%2 == 0 {
				return "550 5.1.1 no such user"
			}
			return ""
		}, map[string]int{refused: 25, "delivered": 25}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			to := numbered(tt.all)
			w := newWorld(t, nil, good(func(b *mailtest.Behaviour) {
				b.ExtensionsTLS, b.RejectRcpt = tt.keywords, make(map[string]string)
				for i, address := range to {
					b.RejectRcpt[address] = tt.reject(i)
				}
			}))
			statuses := w.send(context.Background(), message(to...))
			if got := tally(t, statuses); fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
			arrived := make(map[string]int)
			for _, m := range w.mx[0].Messages() {
				for _, r := range m.Recipients {
					arrived[r]++
				}
			}
			for _, address := range to {
				if want := statuses[address] == nil; (arrived[address] == 1) != want {
					t.Errorf("%s got %d copies, delivered %v", address, arrived[address], want)
				}
			}
		})
	}
}

// TestRefusedAtTheSecondDoor: a host that lets us in once. Those who were not
// reached get its word, not one of ours.
func TestRefusedAtTheSecondDoor(t *testing.T) {
	t.Parallel()
	w, _ := rawWorld(t, nil, func(p *peer) {
		if p.number > 1 {
			p.say("554 5.7.1 once is enough")
			return
		}
		p.hello("PIPELINING", "CHUNKING")
		p.message(func(verb string) {
			if verb == "MAIL" {
				p.say("250 2.1.0 ok")
			} else {
				p.say("550 5.1.1 no such user")
			}
		})
		p.say("503 5.5.1 no recipients")
		p.message(nil)
	})
	got := tally(t, w.send(context.Background(), message(numbered(150)...)))
	want := map[string]int{"550 5.1.1 rcpt-rejected": 100, "554 5.7.1 connect": 50}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestMAILMAX: a connection carries as many transactions as the host allows (RFC
// 9422), whether they are messages or the parts of one.
func TestMAILMAX(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limits      string
		mailMax     int
		messages    int
		recipients  int
		connections int
	}{
		{"MAILMAX=1", 1, 3, 1, 3},
		{"MAILMAX=2", 2, 4, 1, 2},
		{"MAILMAX=1", 1, 1, 250, 3},
		{"MAILMAX=2", 2, 1, 250, 2},
		{"MAILMAX=1 RCPTMAX=1", 1, 2, 15, 30},
		{"RCPTMAX=1 MAILMAX=4", 4, 1, 6, 2},
	} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, inClear(func(b *mailtest.Behaviour) {
				b.ExtensionsClear = []string{"PIPELINING", "CHUNKING", "LIMITS " + tt.limits}
			}))
			for range tt.messages {
				for rcpt, err := range w.send(context.Background(), message(numbered(tt.recipients)...)) {
					if err != nil {
						t.Fatalf("%s: %v", rcpt, err)
					}
				}
			}
			if n := w.mx[0].Connections(); n != tt.connections {
				t.Errorf("%d connections, want %d", n, tt.connections)
			}
			for i, s := range w.mx[0].Sessions() {
				if n := commands(s, "MAIL"); n > tt.mailMax {
					t.Errorf("connection %d: %d transactions, %d are allowed", i+1, n, tt.mailMax)
				}
			}
		})
	}
}
