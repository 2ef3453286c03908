package tlsrpt

import (
	"maps"
	"os"
	"strings"
	"testing"

	mox "github.com/mjl-/mox/tlsrpt"
)

// A crash at any octet of the last write costs that line at most, and what is
// written afterwards is read.
func TestTornLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.r.Record(session("a.example", ""))
	w.r.flush()
	path := countsPath(w.cfg.Dir, theDay)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w.r.Record(session("b.example", mox.ResultCertificateExpired))
	w.r.flush()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(before); cut < len(whole); cut++ {
		w.write(theDay+".jsonl", string(whole[:cut]))
		w.r.Record(session("c.example", ""))
		got := counted(w.read())
		delete(got, "b.example") // there if only the newline was cut
		if want := map[string][2]int64{"a.example": {1, 0}, "c.example": {1, 0}}; !maps.Equal(got, want) {
			t.Fatalf("cut at %d: %v", cut, got)
		}
	}
}

// A file that is none of ours is renamed aside, and counting goes on.
func TestForeignFile(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"binary":        "\x00\x01\x02",
		"half header":   `{"tlsrpt":"cou`,
		"another day":   `{"tlsrpt":"counts","version":1,"day":"2026-11-25"}` + "\n",
		"later version": `{"tlsrpt":"counts","version":2,"day":"2026-11-26"}` + "\n",
		"another kind":  `{"tlsrpt":"progress","version":1,"day":"2026-11-26"}` + "\n",
		"long line":     strings.Repeat("x", 2*maxLine),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.write(theDay+".jsonl", text)
			if docs, err := documents(w.cfg, noon); err == nil {
				t.Errorf("read %v", docs)
			}
			w.r.Record(session("a.example", ""))
			if got := counted(w.read()); got["a.example"] != [2]int64{1, 0} {
				t.Errorf("counted %v", got)
			}
			if aside, err := os.ReadFile(countsPath(w.cfg.Dir, theDay) + ".damaged"); err != nil || string(aside) != text {
				t.Errorf("aside: %q, %v", aside, err)
			}
		})
	}
}

// Lines that cannot be read are passed over and counted.
func TestBadLines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.r.Record(session("a.example", ""))
	w.r.flush()
	file, err := os.ReadFile(countsPath(w.cfg.Dir, theDay))
	if err != nil {
		t.Fatal(err)
	}
	good := strings.SplitAfter(string(file), "\n")[1]
	w.write(theDay+".jsonl", string(file)+strings.Repeat("y", 3*maxLine)+"\n"+"{}\n"+"\n"+
		strings.Replace(good, `"count":1`, `"count":-5`, 1)+
		strings.Replace(good, `a.example`, `a b`, 1)+
		strings.Replace(good, `"count":1`, `"count":9223372036854775807`, 1)+good)
	d, err := loadDay(w.cfg.Dir, theDay)
	if err != nil || d.bad != 6 || d.domains["a.example"].results()[0].Summary.TotalSuccessfulSessionCount != 2 {
		t.Errorf("%v, %+v", err, d)
	}
}

// Nothing that is wrong with the directory reaches whoever records; it is said,
// and when it is mended, counting goes on.
func TestDirectoryInTrouble(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.close()
	w.cfg.Dir = t.TempDir() + "/file"
	if err := os.WriteFile(w.cfg.Dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.r.Record(session("a.example", ""))
	w.r.flush()
	w.step(allDue)
	if !w.log.has("TLS report data is lost; mail is not concerned") {
		t.Error("not a word about it")
	}
	if err := os.Remove(w.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	w.clock.set(noon)
	w.r.Record(session("b.example", ""))
	if got := counted(w.read()); len(got) != 1 || got["b.example"] != [2]int64{1, 0} {
		t.Errorf("counted %v", got)
	}
	if err := os.RemoveAll(w.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	w.r.Record(session("c.example", ""))
	if got := counted(w.read()); len(got) != 1 || got["c.example"] != [2]int64{1, 0} {
		t.Errorf("counted %v", got)
	}
}

// Two reporters in one directory would send everything twice.
func TestOneOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	second := mustOpen(t, w.cfg)
	defer second.Close()
	second.Record(session("a.example", ""))
	second.flush()
	if got := w.read(); len(got) != 0 || !w.log.has("in use by another block or process") {
		t.Errorf("the second one wrote %v", got)
	}
	w.close()
	second.Record(session("a.example", ""))
	if second.flush(); len(w.read()) != 1 {
		t.Error("the directory was free, and not taken")
	}
}

// Whatever is in the files, reading them ends, and gives a bounded report.
func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"tlsrpt":"counts","version":1,"day":"2026-11-26"}` + "\n" +
		`{"domain":"a.example","policy":{"policy-type":"sts","policy-string":["x"],"policy-domain":"a.example","mx-host":[]},"failure":{"result-type":"certificate-expired"},"count":3}` + "\n"))
	f.Add([]byte(`{"tlsrpt":"counts","version":1,"day":"2026-11-26"}` + "\n" + `{"domain":"a.example","policy":null,"count":1}` + "\n{"))
	f.Add([]byte(`{"tlsrpt":"progress","version":1,"day":"2026-11-26"}` + "\n" +
		`{"domain":"a.example","try":1,"at":"2026-11-27T01:00:00Z","next":"2026-11-27T02:00:00Z"}` + "\n" +
		`{"domain":"a.example","to":"mailto:x@a.example","result":"sent"}` + "\n" + `{"domain":"a.example","done":"all told"}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		d := newDay(theDay)
		if _, err := readLines(strings.NewReader(string(file)), countsHeader(theDay), d.take); err == nil {
			for domain, tally := range d.domains {
				doc, err := us.document("salt", theDay, domain, tally)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := doc.Gzip(); err != nil {
					t.Fatal(err)
				}
				if ok, failed := doc.Sessions(); ok < 0 || failed < 0 {
					t.Fatalf("%d, %d sessions", ok, failed)
				}
			}
			again := newDay(theDay)
			for line := range strings.Lines(string(d.lines())) {
				if err := again.take([]byte(line)); err != nil {
					t.Fatalf("what we wrote ourselves: %v", err)
				}
			}
		}
		var halves [2]string
		copy(halves[:], strings.SplitN(string(file), "\n", 2))
		_ = newDay(theDay).takeRow(row{domain: "a.example", policy: halves[0], failure: halves[1], sessions: 1})
		b := newBatch("", newDay(theDay))
		b.day.domains["a.example"] = &tally{}
		_, _ = readLines(strings.NewReader(string(file)), progressHeader(theDay), b.take)
		if len(b.domains) > 1 {
			t.Fatal("progress of what was not counted")
		}
	})
}
