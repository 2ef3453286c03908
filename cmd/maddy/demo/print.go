package demo

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"tlscontrol/internal/mailtest"
)

// Colours, for terminals.
const (
	plain = ""
	bold  = "1"
	faint = "2"
	red   = "1;31"
	green = "32"
)

// Widths of the columns. The last one makes it less than 120.
const (
	askedWidth = 36
	wireWidth  = 24
)

// printer is what a person sees. Where documents alone are wanted, those go out, and on the side only what went wrong.
type printer struct {
	Options
	err error // the first that Out gave
}

func newPrinter(o Options) *printer { return &printer{Options: o} }

// failure tells that not everything was printed.
func (p *printer) failure() error {
	if p.err != nil {
		return fmt.Errorf("cannot print: %w", p.err)
	}
	return nil
}

func (p *printer) print(w io.Writer, format string, args ...any) {
	if _, err := fmt.Fprintf(w, format, args...); err != nil && p.err == nil {
		p.err = err
	}
}

// table prints where the table goes, which is nowhere beside documents.
func (p *printer) table(format string, args ...any) {
	if !p.JSON {
		p.print(p.Out, format, args...)
	}
}

// aside prints what must be said in any case.
func (p *printer) aside(format string, args ...any) {
	w := p.Out
	if p.JSON {
		w = p.Err
	}
	p.print(w, format, args...)
}

// in returns s in a colour, if there are colours.
func (p *printer) in(colour, s string) string {
	if !p.Colour || colour == plain || s == "" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

func (p *printer) intro() {
	p.table("%s\n", p.in(bold, "TLS connection control, on loopback"))
	p.table("A real maddy relays one message a row to MX hosts that treat STARTTLS in five ways. Each row shows what the\n" +
		"sender asks for, what the host saw, and what the delivery log says of it. X-... is a field of the message itself;\n" +
		"\"tighten\" and \"none\" are senders that require TLS and let no message loosen that.\n")
}

func (p *printer) heading(h host) {
	p.table("\n%s\n", p.in(bold, h.does))
	p.table("%s\n", p.in(faint, columns("  ", "what is asked for", "on the wire", "in the log")))
}

// columns aligns what is on one line.
func columns(mark, asked, wire, log string) string {
	return strings.TrimRight(fmt.Sprintf("%-4s%-*s  %-*s  %s", mark, askedWidth, asked, wireWidth, wire, log), " ")
}

// row prints what happened, and below it what was promised where that is something else.
func (p *printer) row(sc scene, seen evidence, found differences) {
	if p.JSON {
		for _, d := range seen.docs {
			p.print(p.Out, "%s\n", d.raw)
		}
		if len(found) > 0 {
			p.aside("%s: not as promised\n", sc.title())
		}
	} else {
		mark, colour := "ok", green
		if len(found) > 0 {
			mark, colour = "BAD", red
		}
		line := columns(mark, sc.title(), p.Escape(onTheWire(seen)), p.Escape(inTheLog(seen)))
		p.table("%s\n", p.in(colour, mark)+strings.TrimPrefix(line, mark))
	}
	for _, d := range found {
		p.aside("      %s\n", p.in(red, fmt.Sprintf("%s: expected %s, got %s", d.what, p.Escape(d.want), p.Escape(d.got))))
	}
}

// onTheWire says what the host saw.
func onTheWire(seen evidence) string {
	how := "no message"
	for _, m := range seen.wire.messages {
		how = "in clear"
		if m.TLS {
			how = version(m)
		}
	}
	switch n := seen.wire.connections; n {
	case 0:
		return "no connection"
	case 1:
		return how + ", 1 connection"
	default:
		return fmt.Sprintf("%s, %d connections", how, n)
	}
}

// version is the TLS version of a message in the words of the log, "" in clear.
func version(m mailtest.Message) string {
	if m.TLSState == nil {
		return ""
	}
	return strings.Replace(tls.VersionName(m.TLSState.Version), "TLS ", "TLSv", 1)
}

// inTheLog says what the document does, or why there is none.
func inTheLog(seen evidence) string {
	if seen.refusal != "" {
		return "none: refused at submission, " + firstWords(seen.refusal, 2)
	}
	if len(seen.docs) == 0 {
		return "none"
	}
	d := seen.docs[0]
	if d.Event != "delivered" {
		return fmt.Sprintf("%s %s %d %s %s", d.Event, d.Severity, d.Status.Code, d.Status.Enhanced, d.Reason)
	}
	switch yes := func(b *bool) bool { return b != nil && *b }; {
	case yes(d.Status.Verified):
		return fmt.Sprintf("delivered %d, certificate verified", d.Status.Code)
	case yes(d.Status.TLS):
		return fmt.Sprintf("delivered %d, unverified: %s", d.Status.Code, firstWord(d.Status.VerificationError))
	default:
		return fmt.Sprintf("delivered %d, in clear: %s", d.Status.Code, d.Status.Fallback)
	}
}

// firstWords returns the first n words of s.
func firstWords(s string, n int) string {
	words := strings.Fields(s)
	return strings.Join(words[:min(n, len(words))], " ")
}

func (p *printer) summary(good int) {
	colour := green
	if good < total() {
		colour = red
	}
	p.table("\n%s\n", p.in(colour, fmt.Sprintf("%d of %d as promised", good, total())))
}

// log prints where the delivery log is, and one of its documents.
func (p *printer) log(path string, all []document) {
	p.table("The delivery log, %d documents: %s\n", len(all), p.Escape(path))
	for _, d := range all {
		if d.Message.Headers["subject"] == exhibit.title() {
			p.table("\nOne of them, %q:\n\n", exhibit.title())
			p.document(d.raw)
			return
		}
	}
}

// document prints a line of the log so that it can be read.
func (p *printer) document(raw []byte) {
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, raw, "", "  "); err != nil {
		pretty.Reset()
		pretty.Write(raw)
	}
	for line := range strings.Lines(pretty.String()) {
		p.table("%s\n", p.Escape(strings.TrimSuffix(line, "\n")))
	}
}
