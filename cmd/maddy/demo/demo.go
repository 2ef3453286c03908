// Package demo shows what the mail server does with TLS, on real sockets and without anything outside the machine.
//
// It starts MX hosts that treat STARTTLS in five ways (hosts.go), a resolver that knows them (world.go) and, as a
// child process of the same binary, a maddy whose configuration has a sender for each kind of settings (config.go,
// server.go). Through its submission endpoint goes one message a row (submit.go). What the MX host saw and what the
// delivery log says (evidence.go) are compared with what was promised for the row (judge.go), and all three are
// printed (print.go).
//
// The promises are written out in hosts.go. Nothing there, and none of the names of the log's fields, is taken from
// the code that is being shown: it would agree with itself.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	// limit ends a run that would not end by itself, the server's start included.
	limit = 13 * time.Second
	// patience is how long one row waits for its document.
	patience = 4 * time.Second
	// settle is how long evidence may still change when the document is there: the MX host notes the end of a
	// handshake at its own pace.
	settle = 2 * time.Second
	// poll is the pause between two looks at the evidence.
	poll = 3 * time.Millisecond
)

// Options say how the run is shown.
type Options struct {
	// Executable and Name start this binary again: its file, and what it is called in its arguments.
	Executable, Name string
	// Out gets the table, or the documents alone where JSON is set. Err gets what is not a document then.
	Out, Err io.Writer
	JSON     bool
	// Keep leaves the server running after the last row, until the context ends, and its files for ever.
	Keep bool
	// Colour is for terminals.
	Colour bool
	// Escape makes text that came from a message or a host safe to print, on one line.
	Escape func(string) string
}

// Run sends all messages and prints what became of them. The error says what is wrong with the run, or that rows did
// not turn out as promised. The end of ctx is the person's wish to stop, which is an error only before the last row.
func Run(ctx context.Context, o Options) (err error) {
	show := newPrinter(o)
	rows, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	w, err := newWorld()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(o.Keep)) }()
	if o.Keep {
		defer show.farewell(w)
	}

	show.intro()
	s, err := startServer(rows, w, o)
	if err != nil {
		return ended(ctx, rows, err)
	}
	defer s.stop()
	t, err := sendAll(rows, w, s, show)
	if err != nil {
		return ended(ctx, rows, err)
	}
	result := conclude(w, t, show)
	if o.Keep {
		show.invitation(w)
		result = errors.Join(result, s.wait(ctx))
	}
	return errors.Join(result, show.failure())
}

// ended tells why a run has no result: the person stopped it, it took too long, or err.
func ended(ctx, rows context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case rows.Err() != nil:
		return fmt.Errorf("the demonstration was not through after %v: %w", limit, err)
	default:
		return err
	}
}

// tally is what the rows came to.
type tally struct {
	good        int
	documents   int
	connections [len(hosts)]int
}

// sendAll sends the message of each row and prints the row. Only one message is under way at a time, so that
// everything that happens to a host belongs to the row.
func sendAll(ctx context.Context, w *world, s *server, show *printer) (t tally, err error) {
	client, err := dialSubmission(ctx, w.submission)
	if err != nil {
		return t, s.explain(err)
	}
	defer client.Close()
	for i, h := range hosts {
		show.heading(h)
		for _, sc := range h.scenes() {
			seen, err := play(ctx, w, s, client, i, sc)
			if err != nil {
				return t, s.explain(err)
			}
			found := judge(h, sc, seen)
			if len(found) == 0 {
				t.good++
			}
			t.documents += len(seen.docs)
			t.connections[i] += seen.wire.connections
			show.row(sc, seen, found)
			if err := show.failure(); err != nil {
				return t, err // nobody reads any more
			}
		}
	}
	return t, nil
}

// play sends the message of one row and gathers evidence until it is as promised, or will not become so.
func play(ctx context.Context, w *world, s *server, client *submitter, host int, sc scene) (evidence, error) {
	mx, before := w.mx[host], mark(w.mx[host])
	m := newMail(hosts[host], sc)
	refusal, err := client.send(m)
	if err != nil {
		return evidence{}, err
	}
	deadline := time.Now().Add(patience)
	documented := false
	for {
		docs, err := w.documents(m.id)
		if err != nil {
			return evidence{}, err
		}
		seen := evidence{mail: m, refusal: refusal, docs: docs, wire: look(mx, before)}
		if refusal != "" || len(judge(hosts[host], sc, seen)) == 0 {
			return seen, nil
		}
		if len(docs) > 0 && !documented {
			documented, deadline = true, time.Now().Add(settle)
		}
		if time.Now().After(deadline) {
			return seen, nil
		}
		select {
		case <-ctx.Done():
			return evidence{}, fmt.Errorf("waiting for the message %s: %w", m.id, ctx.Err())
		case <-s.exited:
			return evidence{}, errors.New("maddy has ended")
		case <-time.After(poll):
		}
	}
}

// conclude prints the sum, and returns an error unless all rows are as promised and there is nothing besides them.
func conclude(w *world, t tally, show *printer) error {
	all, err := w.documents("")
	if err != nil {
		return err
	}
	show.summary(t.good)
	if !show.JSON {
		log := w.log()
		if !show.Keep {
			// The directory goes, and a path that leads nowhere would be no use.
			if log, err = w.saveLog(); err != nil {
				return err
			}
		}
		show.log(log, all)
	}
	if t.good < total() {
		return fmt.Errorf("%d of %d rows did not turn out as promised", total()-t.good, total())
	}
	if strays := w.strays(t, all); strays != "" {
		return fmt.Errorf("more happened than the rows explain: %s", strays)
	}
	return nil
}

// saveLog copies the delivery log to a file of its own that stays.
func (w *world) saveLog() (string, error) {
	data, err := os.ReadFile(w.log())
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp("", "tlscontrol-demo-*.jsonl")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	return f.Name(), errors.Join(err, f.Close())
}
