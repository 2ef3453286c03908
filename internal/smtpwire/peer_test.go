package smtpwire

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"
)

// mailbox is a backend for go-smtp's server that keeps what it gets, and refuses
// recipients that begin with "bad".
type mailbox struct {
	mu   sync.Mutex
	mail []delivered
}

type delivered struct {
	from     string
	opts     smtp.MailOptions
	to       []string
	original []string
	body     []byte
}

func (m *mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &visit{box: m}, nil }

func (m *mailbox) take() []delivered {
	m.mu.Lock()
	defer m.mu.Unlock()
	got := m.mail
	m.mail = nil
	return got
}

type visit struct {
	box *mailbox
	delivered
}

func (v *visit) Reset()        { v.delivered = delivered{} }
func (v *visit) Logout() error { return nil }

func (v *visit) Mail(from string, opts *smtp.MailOptions) error {
	v.from, v.opts = from, *opts
	return nil
}

func (v *visit) Rcpt(to string, opts *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "bad") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	}
	v.to = append(v.to, to)
	if opts.OriginalRecipient != "" {
		v.original = append(v.original, opts.OriginalRecipient)
	}
	return nil
}

func (v *visit) Data(r io.Reader) error {
	body, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	got := v.delivered
	got.body = body
	v.box.mu.Lock()
	defer v.box.mu.Unlock()
	v.box.mail = append(v.box.mail, got)
	return nil
}

// peer starts go-smtp's server and returns how to connect to it.
func peer(t *testing.T) (*mailbox, func() net.Conn) {
	t.Helper()
	box := &mailbox{}
	s := smtp.NewServer(box)
	s.Domain = "mx.example"
	s.MaxLineLength = 1 << 20
	s.EnableSMTPUTF8, s.EnableREQUIRETLS, s.EnableDSN = true, true, true
	s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{testCert()}}
	s.ErrorLog = log.New(io.Discard, "", 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-served })
	return box, func() net.Conn {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return nc
	}
}

func TestPeerBodies(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"BDAT": {}, "DATA": {NoChunking: true},
		"BDAT, one by one": {NoPipelining: true}, "DATA, one by one": {NoChunking: true, NoPipelining: true},
	} {
		for _, encrypted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %v", name, encrypted), func(t *testing.T) {
				t.Parallel()
				ctx := context.Background()
				box, dial := peer(t)
				c := open(t, dial(), cfg)
				if encrypted {
					if err := c.StartTLS(ctx, clientTLS(t)); err != nil {
						t.Fatal(err)
					}
				}
				rng := rand.New(rand.NewPCG(3, 4))
				for _, size := range []int{0, 1, 100, smallBody - 1000, smallBody, smallBody + 1, 256 << 10, 700 << 10, 3 << 20} {
					body := make([]byte, size)
					for i := range body {
						body[i] = "\r\n.ab\xfc\x00xyzXYZ 0123456789"[rng.IntN(24)]
					}
					tx := transaction("b@example.net", "bad@example.net", "c@example.net")
					tx.Content = message(body)
					r := c.Send(ctx, tx)
					want := []string{"ok", "rcpt: 550 5.1.1 no such user", "ok"}
					if diff := cmp.Diff(want, fates(r)); diff != "" || r.Err != nil {
						t.Fatal(size, r.Err, diff)
					}
					got := box.take()
					if len(got) != 1 || !bytes.Equal(got[0].body, normalised(append(tx.Header[:len(tx.Header):len(tx.Header)], body...))) {
						t.Fatalf("message of %d octets arrived differently", size)
					}
					if err := c.Reset(ctx); err != nil {
						t.Fatal(err)
					}
				}
				c.Quit(ctx)
			})
		}
	}
}

func TestPeerParameters(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	box, dial := peer(t)
	c := open(t, dial(), patient())
	if err := c.StartTLS(ctx, clientTLS(t)); err != nil {
		t.Fatal(err)
	}
	tx := transaction("ü@bücher.example")
	tx.UTF8, tx.RequireTLS, tx.Size, tx.Return, tx.EnvelopeID = true, true, 40, "HDRS", "a+b =c"
	tx.Recipients[0].Notify = []string{"SUCCESS", "DELAY"}
	tx.Recipients[0].OriginalRecipient = "utf-8;ü+@bücher.example"
	r := c.Send(ctx, tx)
	if r.Err != nil || r.Recipients[0].Err != nil || !r.UTF8 || !r.Clean {
		t.Fatalf("result %+v", r)
	}
	got := box.take()[0]
	got.body = nil
	want := delivered{
		from: "a@example.com", to: []string{"ü@bücher.example"}, original: []string{"ü+@bücher.example"},
		opts: smtp.MailOptions{Body: smtp.Body8BitMIME, Size: 40, RequireTLS: true, UTF8: true, Return: smtp.DSNReturnHeaders, EnvelopeID: "a+b =c"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(delivered{})); diff != "" {
		t.Error(diff)
	}
}
