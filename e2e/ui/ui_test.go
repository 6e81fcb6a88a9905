// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

// TestPage: what the page says of a node with traffic is what its API says, and it follows changes.
func TestPage(t *testing.T) {
	s := newStage(t)
	s.connect(t, "10.96.0.10:80", 50*time.Millisecond)
	s.connect(t, "10.96.0.12:80", 200*time.Millisecond)
	b := browse(t, s.ui(t), 1280, 860)
	t.Run("services", func(t *testing.T) { s.services(t, b.with(t)) })
	t.Run("keyboard", func(t *testing.T) { keyboard(b.with(t)) })
	t.Run("service", func(t *testing.T) { s.service(t, b.with(t)) })
	t.Run("hostile", func(t *testing.T) { hostile(b.with(t)) })
	t.Run("node", func(t *testing.T) { s.node(t, b.with(t)) })
	t.Run("trace", func(t *testing.T) { s.trace(t, b.with(t)) })
	t.Run("change", func(t *testing.T) { s.change(t, b.with(t)) })
	t.Run("restart", func(t *testing.T) { s.restart(t, b.with(t)) })
	t.Run("narrow", func(t *testing.T) { narrow(b.with(t)) })
}

// with is the same browser for a part of a test.
func (b *browser) with(t *testing.T) *browser { return &browser{t: t, ctx: b.ctx, url: b.url} }

// services: the list has each Service that the API has, with the same figures.
func (s *stage) services(t *testing.T, b *browser) {
	b.wait("the list", `document.querySelectorAll('[data-service]').length > 5`)
	b.shoot("services")
	want := map[string]string{}
	for _, svc := range get[ask.Services](t, s.api(), "/v1/services?limit=1000").Services {
		used, ready, all, states := 1<<30, 0, 0, map[string]bool{}
		for _, p := range svc.Ports {
			if p.Used < used {
				used, ready, all = p.Used, p.Ready, p.All
			}
			states[string(p.State)] = true
		}
		state := "ok"
		for _, worse := range []string{"no endpoints", "conflict", "refused"} {
			if states[worse] {
				state = worse
			}
		}
		want[svc.Namespace+"/"+svc.Name] = fmt.Sprintf("%s|%s|%d/%d/%d|%s", svc.Type, svc.Ports[0].Frontends[0]+"/"+svc.Ports[0].Protocol, used, ready, all, state)
	}
	got := eval[map[string]string](b, `Object.fromEntries([...document.querySelectorAll('[data-service]')].map((r) => [r.dataset.service,
		['.type', '.frontend', '.endpoints .figures', '.state'].map((c) => (c === '.frontend' ? r.querySelector(c).firstChild : r.querySelector(c)).textContent).join('|')]))`)
	if len(want) < 8 || len(got) != len(want) {
		t.Errorf("%d Services are shown, want %d", len(got), len(want))
	}
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%s is shown as %q, want %q", name, got[name], w)
		}
	}
	b.wait("new connections are counted", `Number(document.querySelector('[data-service="shop/web"] .rate .figures')?.textContent) > 0 && document.querySelector('[data-service="shop/cart"] .rate .figures').textContent === '0.0'`)
	for button, n := range map[string]int{"No endpoints": 2, "Conflict": 1, "Refused": 0, "Drift": 0, "All": len(want)} {
		b.press(button)
		if rows := eval[int](b, `document.querySelectorAll('[data-service]').length`); rows != n {
			t.Errorf("%s: %d rows, want %d", button, rows, n)
		}
	}
	b.fits("services")
}

// keyboard: the list is used without a mouse.
func keyboard(b *browser) {
	b.open("services")
	b.wait("the list", `document.querySelectorAll('[data-service]').length > 5`)
	if eval[bool](b, `document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: '/', bubbles: true, cancelable: true}))`) {
		b.t.Error("the slash is typed, too")
	}
	b.wait("the search has the focus", `document.activeElement.type === 'search'`)
	must(b.t, chromedp.Do(b.ctx, chromedp.KeyEvent("10.96.0.1"), chromedp.KeyEvent("\r")))
	b.wait("what was searched", `document.querySelector("input[type=search]")?.value === '10.96.0.1' && document.querySelectorAll('[data-service]').length === 6`)
	b.keys("ArrowDown", "j", "End", "Home", "ArrowDown", "j", "k")
	b.wait("the second is chosen", `document.querySelector('.row.chosen')?.dataset.service === 'shop/checkout' && document.querySelector('.scroller').getAttribute('aria-activedescendant') === document.querySelector('.row.chosen').id`)
	b.keys("Enter")
	b.wait("it is opened", `location.hash === '#/0/service/shop/checkout' && document.querySelector('h1')?.textContent === 'shop/checkout'`)
	b.keys("2")
	b.wait("the node", `location.hash === '#/0/node'`)
}

// keys presses keys where the focus is.
func (b *browser) keys(names ...string) {
	b.t.Helper()
	for _, name := range names {
		eval[any](b, `document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: '`+name+`', bubbles: true, cancelable: true}))`)
	}
}

// shown is what the page says of a Service's choice.
type shown struct {
	Endpoints [][]string `json:"endpoints"` // address, pod, node, used, why
	Picture   []string   `json:"picture"`   // addresses with a share
	Sentence  string     `json:"sentence"`
	Why       []string   `json:"why"`
	Steps     []string   `json:"steps"`
	Ways      int        `json:"ways"`  // rules of the Service that are marked
	Marks     []string   `json:"marks"` // endpoints that are marked in its rules
}

const look = `({
	endpoints: [...document.querySelectorAll('tbody tr')].map((r) => [r.dataset.ep, r.cells[1].textContent, r.cells[2].textContent.replace(/here$/, ''), r.className.includes('unused') ? 'no' : 'yes', r.cells[r.cells.length - 1].textContent]),
	picture: [...document.querySelectorAll('svg .endpoint:not(.unused)')].map((e) => e.dataset.ep).sort(),
	sentence: document.querySelector('.sentence')?.textContent ?? '',
	why: [...document.querySelectorAll('.why:not(.warn) li')].map((e) => e.textContent),
	steps: [...document.querySelectorAll('.steps li')].map((e) => e.textContent.replace(' ', ': ')),
	ways: document.querySelectorAll('.nft .way').length,
	marks: [...new Set([...document.querySelectorAll('.nft mark.endpoint:not(.other)')].map((e) => e.dataset.ep))].sort(),
})`

// service: for each port, frontend and client of each Service the page says what explain says, and shows its rules.
func (s *stage) service(t *testing.T, b *browser) {
	for _, target := range []string{"shop/web", "shop/cart", "shop/checkout", "shop/search", "shop/intruder", "kube-system/kube-dns"} {
		b.open("service/" + target)
		b.wait(target, `document.querySelector('.picture svg') && document.querySelector('.nft')`)
		if target == "shop/web" {
			b.shoot("service")
		}
		e := get[explain.Explanation](t, s.api(), "/v1/explain?target="+url.QueryEscape(target))
		for pi, p := range e.Ports {
			for fi, f := range p.Frontends {
				for ci := range f.Clients {
					b.choose("Port", pi)
					b.choose("Frontend", fi)
					b.choose("Client", ci)
					compare(t, fmt.Sprint(target, ":", p.Port, "/", p.Family, " ", f.Address, " from ", f.Clients[ci].From), &e, &p, &f.Clients[ci], eval[shown](b, look))
				}
			}
		}
		text := get[ask.Rules](t, s.api(), "/v1/rules/"+target).Text
		if got := eval[string](b, `document.querySelector('.nft').textContent`); strings.TrimSpace(got) != strings.TrimSpace(text) {
			t.Errorf("%s: its rules are shown as\n%s\nwant\n%s", target, got, text)
		}
		b.fits(target)
	}
}

// choose presses the n-th button of a choice.
func (b *browser) choose(label string, n int) {
	b.t.Helper()
	eval[any](b, fmt.Sprintf(`document.querySelectorAll('[aria-label=%s] button')[%d].click()`, label, n))
}

// compare says where the page differs from an explanation.
func compare(t *testing.T, what string, e *explain.Explanation, p *explain.Port, c *explain.ClientView, got shown) {
	t.Helper()
	reached := map[string]bool{}
	for _, to := range c.To {
		reached[to.Address] = true
	}
	want := shown{Endpoints: [][]string{}, Picture: []string{}, Why: append(slices.Clone(c.Why), e.Notes...), Steps: c.Rules, Marks: []string{}, Sentence: got.Sentence, Ways: got.Ways}
	for _, ep := range p.Endpoints {
		used := "no"
		if reached[ep.Address] {
			used = "yes"
			want.Picture = append(want.Picture, ep.Address)
		}
		why := strings.Join(slices.DeleteFunc([]string{ep.Why, ep.Share}, func(s string) bool { return s == "" }), "; ")
		want.Endpoints = append(want.Endpoints, []string{ep.Address, ep.Pod, ep.Node, used, why})
	}
	sort.Strings(want.Picture)
	want.Marks = want.Picture
	have, _ := json.Marshal(got)
	if expected, _ := json.Marshal(normal(want)); string(have) != string(expected) {
		t.Errorf("%s: the page says\n%s\nwant\n%s", what, have, expected)
	}
	says := map[explain.Outcome]string{explain.Answer: "goes to", explain.Refused: "is refused", explain.Timeout: "is dropped", explain.Untouched: "is not touched"}[c.Outcome]
	if !strings.Contains(got.Sentence, says) {
		t.Errorf("%s: %q does not say that it %s", what, got.Sentence, says)
	}
	if c.Outcome == explain.Answer && got.Ways+len(got.Marks) == 0 {
		t.Errorf("%s: no rule of the Service is marked", what)
	}
}

// normal has empty lists in place of none.
func normal(s shown) shown {
	if s.Why == nil {
		s.Why = []string{}
	}
	if s.Steps == nil {
		s.Steps = []string{}
	}
	return s
}

// hostile: text that looks like markup is text.
func hostile(b *browser) {
	b.open("service/tenant/markup")
	b.wait("the Service", `document.querySelector('.picture svg') && document.querySelector('.nft')`)
	if n := eval[int](b, `document.querySelectorAll('main img, main script').length`); n != 0 {
		b.t.Errorf("%d elements were made of text", n)
	}
	for _, in := range []string{"td", "svg"} {
		if !eval[bool](b, `[...document.querySelectorAll('`+in+` , `+in+` title')].some((e) => e.textContent.includes('<img'))`) {
			b.t.Errorf("the text is not in %s", in)
		}
	}
	b.wait("its title stays", `document.title.startsWith('tenant/markup')`)
	b.fits("hostile")
	b.open("service/shop/" + url.PathEscape("<img src=x onerror=alert(1)>"))
	b.wait("no such Service", `document.querySelector('.problem')?.textContent.includes('there is no Service')`)
}

// node: the cards and the list are those of the API.
func (s *stage) node(t *testing.T, b *browser) {
	b.open("node")
	b.wait("the cards", `document.querySelectorAll('.card').length >= 4`)
	n := get[ask.Node](t, s.api(), "/v1/node")
	text := eval[string](b, `document.querySelector('.cards').innerText`)
	b.wait("drift", `[...document.querySelectorAll('.card')].some((e) => e.textContent.startsWith('Driftnone'))`)
	for _, want := range []string{"healthy", fmt.Sprint(n.Services), fmt.Sprintf("of %d %03d", n.Tracked.Limit/1000, n.Tracked.Limit%1000)} {
		if !strings.Contains(strings.ReplaceAll(text, "\u2009", " "), want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
	if title := eval[string](b, `document.querySelector('h1').textContent`); !strings.HasPrefix(title, n.Name) {
		t.Errorf("it is called %q", title)
	}
	all := get[ask.Transactions](t, s.api(), "/v1/transactions?limit=1000").Transactions
	b.wait("the transactions", fmt.Sprintf(`document.querySelectorAll('.chart circle').length === %d`, len(all)))
	others := `[...document.querySelectorAll('.history li b')].map((e) => e.textContent).join(' ')`
	if who := eval[string](b, others); who != "" {
		t.Errorf("%q have changed the tables, and nobody has", who)
	}
	theirs := exec.Command(netnstest.Tool(t, "nft"), "add", "chain", "ip", "nftproxy", "theirs")
	must(t, s.Node.Do(func() error {
		if out, err := theirs.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}))
	b.wait("who else changed the tables", others+`.startsWith('nft (pid ')`)
	b.fits("node")
}

// trace: connections are shown as they come, with the endpoints that they go to, and those that fail.
func (s *stage) trace(t *testing.T, b *browser) {
	b.open("trace/shop/web")
	b.wait("connections", `document.querySelectorAll('.connections tbody tr').length > 12`)
	b.shoot("trace")
	e := get[explain.Explanation](t, s.api(), "/v1/explain?target=shop/web&from=pod")
	want := map[string]bool{}
	for _, to := range e.Ports[0].Frontends[0].Clients[0].To {
		want[to.Address] = true
	}
	got := eval[map[string]string](b, `Object.fromEntries([...document.querySelectorAll('.connections tbody tr')].map((r) => [r.cells[3].textContent, r.cells[2].textContent + ' ' + r.cells[4].textContent]))`)
	for endpoint, text := range got {
		if !want[endpoint] || !strings.HasPrefix(text, "10.96.0.10:80/tcp ") || !strings.Contains(text, "answered") {
			t.Errorf("a connection is told as %s: %s", endpoint, text)
		}
	}
	if len(got) != len(want) {
		t.Errorf("connections go to %v, want %v", got, want)
	}
	b.press("Stop")
	b.wait("the end", `document.querySelector('[role=status].remark')?.textContent.includes('Not following')`)
	b.fits("trace")
	b.open("trace/shop/checkout")
	b.wait("refused connections", `document.querySelectorAll('.connections tbody tr.failed').length > 0 && /refused|rejected/.test(document.querySelector('.shares').textContent)`)
	b.open("trace/no/such")
	b.wait("no such Service", `document.querySelector('.problem')?.textContent.includes('there is no Service no/such')`)
	b.open("trace")
	b.wait("an empty field", `document.querySelector('[role=combobox]')?.value === ''`)
	eval[any](b, `document.querySelector('[role=combobox]').focus(); 0`)
	must(t, chromedp.Do(b.ctx, chromedp.KeyEvent("shop/c")))
	b.wait("what is offered", `[...document.querySelectorAll('.found a')].map((a) => a.textContent).join() === 'shop/cart,shop/checkout'`)
}

// change: what changes in the cluster changes in the page, and in the history.
func (s *stage) change(t *testing.T, b *browser) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*netns.Patience()) // for all of it
	defer cancel()
	b.open("service/shop/cart")
	b.wait("both endpoints", `document.querySelectorAll('svg .endpoint:not(.unused)').length === 2`)
	eval[any](b, `document.querySelector('[data-key^="Port "]').focus(); 0`)
	file := filepath.Join(s.manifests.Dir, "shop.json")
	text, err := os.ReadFile(file)
	must(t, err)
	const gone = `"10.244.2.5"`
	if strings.Count(string(text), gone) != 1 {
		t.Fatal("the manifests are others")
	}
	must(t, s.manifests.Write("shop.json", []byte(strings.ReplaceAll(string(text), gone, `"10.244.2.6"`))))
	must(t, s.manifests.Programmed(ctx, s.Node.NS))
	b.wait("the new endpoint", `[...document.querySelectorAll('svg .endpoint:not(.unused)')].some((e) => e.dataset.ep === '10.244.2.6:8080')`)
	b.wait("its history", `/\+10\.244\.2\.6:8080.*−10\.244\.2\.5:8080/.test(document.querySelector('.history')?.textContent)`)
	if !eval[bool](b, `document.activeElement.dataset.key?.startsWith('Port ')`) {
		t.Error("the focus is lost when the picture is drawn anew")
	}
	b.open("services")
	b.wait("the barrier's Service", `[...document.querySelectorAll('[data-service]')].some((e) => e.dataset.service === 'zzz/barrier')`)
	must(t, os.Remove(filepath.Join(s.manifests.Dir, "shop.json")))
	must(t, s.manifests.Programmed(ctx, s.Node.NS))
	b.wait("the others are gone", `document.querySelectorAll('[data-service]').length === 1`)
	must(t, s.manifests.Write("shop.json", text))
	must(t, s.manifests.Programmed(ctx, s.Node.NS))
	b.wait("they are back", `document.querySelectorAll('[data-service]').length > 7`)
}

// restart: while nftproxy is away the page says so, and then goes on with the next one.
func (s *stage) restart(t *testing.T, b *browser) {
	b.open("services")
	b.wait("it is live", `document.querySelector('.live').textContent === 'live' && document.querySelectorAll('[data-service]').length > 7`)
	s.proxy.Kill()
	b.wait("it says so", `document.querySelector('.live.lost')`)
	s.start()
	b.wait("it is live again", `document.querySelector('.live').textContent === 'live'`)
	b.open("node")
	b.wait("the next one's transactions", fmt.Sprintf(`document.querySelectorAll('.chart circle').length === %d`, len(get[ask.Transactions](t, s.api(), "/v1/transactions").Transactions)))
	b.press("Services")
	b.wait("the list", `document.querySelectorAll('[data-service]').length > 7`)
}

// narrow: at a telephone's width nothing is cut off.
func narrow(b *browser) {
	must(b.t, chromedp.Do(b.ctx, chromedp.EmulateViewport(390, 844)))
	b.scheme("dark")
	for view, ready := range map[string]string{
		"services":              `document.querySelectorAll('[data-service]').length > 5`,
		"service/shop/web":      `document.querySelector('.picture svg') && document.querySelector('.nft')`,
		"service/tenant/markup": `document.querySelector('.picture svg') && document.querySelector('.nft')`,
		"node":                  `document.querySelectorAll('.card').length >= 4`,
		"trace/shop/web":        `document.querySelectorAll('.connections tbody tr').length > 0`,
	} {
		b.open(view)
		b.wait(view, ready)
		b.fits(view)
		b.shoot("narrow-" + strings.ReplaceAll(view, "/", "-"))
	}
}
