// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ui

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// patience is how long a test may take in all.
const patience = 3 * time.Minute

// chromium returns a headless Chromium's path.
func chromium() (string, error) {
	for _, name := range []string{"chromium-headless-shell", "chromium", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("missing tool: chromium-headless-shell or chromium")
}

// needsChromium skips a test where there is none.
func needsChromium(t *testing.T) string {
	t.Helper()
	path, err := chromium()
	switch {
	case err == nil:
	case os.Getenv("NFTPROXY_REQUIRE_TOOLS") != "":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
	return path
}

// browser is a page that is looked at.
type browser struct {
	t   *testing.T
	ctx context.Context
	url string

	mu       sync.Mutex
	troubles []string // of scripts and the policy
}

// browse opens a page in a browser whose window has a size; it ends with the test. The test fails if a script of the page does.
func browse(t *testing.T, url string, width, height int64) *browser {
	t.Helper()
	path := needsChromium(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()))
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, url: url}
	must(t, chromedp.Do(ctx, chromedp.EmulateViewport(width, height)))
	messages := chromedp.Console(ctx)
	var listening sync.WaitGroup
	listening.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			b.mu.Lock()
			b.troubles = append(b.troubles, m.String())
			if os.Getenv("UI_LOG") != "" {
				println(time.Now().Format("05.000"), m.String())
			}
			b.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		cancel()
		listening.Wait()
		for _, m := range b.troubles {
			if !b.excused(m) {
				t.Error("the browser says: ", m)
			}
		}
	})
	b.open("")
	return b
}

// excused says whether a message tells of what a test does: nftproxy is away, or a Service is asked for that is not there.
func (b *browser) excused(message string) bool {
	for _, text := range []string{"404 (Not Found)", "502 (Bad Gateway)", "net::ERR_INCOMPLETE_CHUNKED_ENCODING", "net::ERR_ABORTED"} {
		if strings.Contains(message, text) {
			return true
		}
	}
	return false
}

// open opens a view: what comes after # in the address.
func (b *browser) open(view string) {
	b.t.Helper()
	address := b.url
	if view != "" {
		address += "#/0/" + view
	}
	must(b.t, chromedp.Do(b.ctx, chromedp.Navigate("about:blank"), chromedp.Navigate(address)))
}

// scheme switches the page to light or dark.
func (b *browser) scheme(name string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
	must(b.t, err)
}

// eval returns what a script says.
func eval[V any](b *browser, script string) V {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[V](script, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return v
}

// wait waits until a script says true.
func (b *browser) wait(what, script string) {
	b.t.Helper()
	deadline := time.Now().Add(netns.Patience())
	for !eval[bool](b, "Boolean("+script+")") {
		if time.Now().After(deadline) {
			text := eval[string](b, "location.href + '\\n' + document.activeElement.outerHTML.slice(0, 200) + '\\n' + JSON.stringify([...document.querySelectorAll('input')].map((e) => e.value)) + '\\n' + document.body.innerText")
			b.t.Fatalf("%s: it does not come. The page:\n%s", what, text)
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}

// press clicks the button whose text begins so.
func (b *browser) press(text string) {
	b.t.Helper()
	quoted, _ := json.Marshal(text)
	if !eval[bool](b, `(() => { const e = [...document.querySelectorAll('button, a')].find((e) => e.textContent.startsWith(`+string(quoted)+`)); e?.click(); return Boolean(e); })()`) {
		b.t.Fatalf("there is no button %q", text)
	}
}

// shoot writes a picture of the page to the directory NFTPROXY_UI_SHOTS, if that is set.
func (b *browser) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("NFTPROXY_UI_SHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	must(b.t, err)
	must(b.t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644))
}

// fits checks that nothing is wider than the window, and that whatever can be used has a name.
func (b *browser) fits(view string) {
	b.t.Helper()
	if over := eval[float64](b, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
		b.t.Errorf("%s: it is %v pixels too wide", view, over)
	}
	nameless := eval[[]string](b, `[...document.querySelectorAll('a, button, input, select, [tabindex="0"]')].filter((e) => e.checkVisibility() &&
		!(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.[0]?.textContent.trim() || e.id === 'view')).map((e) => e.outerHTML.slice(0, 200))`)
	if len(nameless) > 0 {
		b.t.Errorf("%s: these have no name: %s", view, strings.Join(nameless, "\n"))
	}
}
