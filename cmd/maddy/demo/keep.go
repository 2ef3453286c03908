package demo

import (
	"slices"
	"strings"
)

// invitation tells how to play with the running server.
func (p *printer) invitation(w *world) {
	var from, to []string
	for _, h := range hosts {
		to = append(to, h.domain())
		for _, sc := range h.scenes() {
			if !slices.Contains(from, sc.from) {
				from = append(from, sc.from)
			}
		}
	}
	p.aside("\n%s\n", p.in(bold, "The server runs on until you press Ctrl-C"))
	p.aside("Directory      %s\n", p.Escape(w.dir))
	p.aside("Configuration  %s\n", p.Escape(w.config()))
	p.aside("Delivery log   %s\n", p.Escape(w.log()))
	p.aside("Server's log   %s\n", p.Escape(w.output()))
	p.aside("Senders        %s\n", list(from))
	p.aside("Recipients     %s\n", list(to))

	sender, recipient := "alice@"+exhibit.from, "bob@bad-certificate.example"
	p.aside("\nTo send a message (without X-Skip-Verification it fails, and waits in the queue for another try):\n\n")
	p.aside("  printf 'From: <%s>\\r\\nTo: <%s>\\r\\nSubject: hello\\r\\n%s\\r\\n\\r\\nhello\\r\\n' |\n"+
		"    curl -sS smtp://%s --user '%s:%s' --mail-from %s \\\n      --mail-rcpt %s --upload-file -\n",
		sender, recipient, exhibit.field, w.submission, user, password, sender, recipient)
	p.aside("\nor\n\n  swaks --server %s --auth PLAIN --auth-user %s --auth-password %s \\\n"+
		"    --from %s --to %s --header '%s'\n", w.submission, user, password, sender, recipient, exhibit.field)
	p.aside("\nand to see what became of it:\n\n  tail -n 1 %s\n\n", p.Escape(quoted(w.log())))
}

// farewell tells what is left behind.
func (p *printer) farewell(w *world) {
	p.aside("\nThe server has been stopped. Its files stay in %s\n", p.Escape(w.dir))
}

// list breaks names into lines that stand below each other.
func list(names []string) string {
	const perLine = 3
	var lines []string
	for some := range slices.Chunk(names, perLine) {
		lines = append(lines, strings.Join(some, " "))
	}
	return strings.Join(lines, "\n               ")
}

// quoted returns a path as a shell takes it.
func quoted(path string) string {
	if !strings.ContainsAny(path, " \t'\"\\$`&;()<>|*?[]#~!{}") {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
