package tests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a headless Chromium with one tab. What went wrong in the page fails
// the test: exceptions, what the Content Security Policy stopped, and requests to
// anything but the relay.
type browser struct {
	*testing.T
	ctx  context.Context
	home string // what every URL must begin with

	mu       sync.Mutex
	troubles []string
}

// browse starts a browser for the page of a relay, with more options.
func browse(t *testing.T, home string, more ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(realTool(t, "chromium")),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.*")) // nothing leaves this machine
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	options = append(options, more...)
	ctx, cancel := context.WithTimeout(context.Background(), 6*hang)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	b := &browser{T: t, home: home}
	b.ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(b.watch))
	t.Cleanup(cancel)
	b.run(chromedp.EmulateViewport(1280, 800), command(network.Enable, network.EnableParams{}), command(log.Enable, cdp.Empty{}))
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, trouble := range b.troubles {
			t.Error(trouble)
		}
	})
	return b
}

func (b *browser) watch(event any) {
	trouble := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		trouble = fmt.Sprintf("exception: %s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception)
	case *log.EventEntryAdded:
		// A refused login is what a test wants; the browser logs each 4xx.
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
			trouble = fmt.Sprintf("the browser complains: %s %s", e.Entry.Source, e.Entry.Text)
		}
	case *network.EventRequestWillBeSent:
		if url := e.Request.URL; !strings.HasPrefix(url, b.home) && !strings.HasPrefix(url, "about:") {
			trouble = "a request to " + url
		}
	}
	if trouble != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.troubles = append(b.troubles, trouble)
	}
}

// command is one of the browser's protocol.
func command[P any](c cdp.Command[P, cdp.Empty], parameters P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, parameters)
		return err
	})
}

func (b *browser) run(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.Fatalf("%v\n%s", err, b.troubles)
	}
}

// eval returns the value of an expression.
func eval[T any](b *browser, expression string) T {
	b.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.Fatalf("%s: %v\n%s", expression, err, b.troubles)
	}
	return v
}

// until waits for an expression to be true.
func (b *browser) until(expression string) {
	b.Helper()
	if _, err := chromedp.Run(b.ctx, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(hang))); err != nil {
		text := eval[string](b, "document.body.innerText")
		b.Fatalf("never came true: %s: %v\n%s", expression, err, text)
	}
}

// shows waits for text on the page.
func (b *browser) shows(text string) {
	b.Helper()
	b.until(fmt.Sprintf("document.body.innerText.includes(%q)", text))
}

func (b *browser) click(selector string) {
	b.Helper()
	b.run(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

func (b *browser) fill(selector, text string) {
	b.Helper()
	b.run(chromedp.WaitVisible(chromedp.CSS(selector)))
	eval[bool](b, fmt.Sprintf("document.querySelector(%q).value = '', true", selector))
	b.run(chromedp.SendKeys(chromedp.CSS(selector), text))
}

// choose picks an option as a person does: the page hears of it.
func (b *browser) choose(id, value string) {
	b.Helper()
	eval[bool](b, fmt.Sprintf("(() => { const s = document.getElementById(%q); s.value = %q; s.dispatchEvent(new Event('change', { bubbles: true })); return true; })()", id, value))
}

// view goes to a part of the page.
func (b *browser) view(hash string) {
	b.Helper()
	eval[string](b, fmt.Sprintf("location.hash = %q", hash))
}

// dress sets width, and the scheme of colours that the system asks for.
func (b *browser) dress(width int64, scheme string) {
	b.Helper()
	b.run(chromedp.EmulateViewport(width, 800),
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}}))
}

// picture keeps what the page looks like where TLSCONTROL_PICTURES says, for
// people to look at.
func (b *browser) picture(name string) {
	b.Helper()
	dir := os.Getenv("TLSCONTROL_PICTURES")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		b.Fatal(err)
	}
}
