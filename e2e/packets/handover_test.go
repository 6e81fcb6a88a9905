// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"strings"
	"syscall"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// A second nftproxy waits for the first one's end, and takes over: no connection fails, and no two write. What changes meanwhile is
// programmed by the one whose turn it is, once.
func TestHandOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	a, b, c := w.Local[0], w.RemotePods[0], w.RemotePods[1]
	three := w.service("three").to(ready(a, b, c))
	other := w.service("other").to(ready(b))
	w.apply(t, three, other, w.service("none"))
	l := startLoad(t, w, three, a, b, c)
	for _, end := range []struct {
		name string
		by   func(*proxy.Process)
	}{
		{"SIGTERM", func(p *proxy.Process) {
			if err := p.Stop(); err != nil {
				t.Error(err)
			}
		}},
		{"SIGKILL", (*proxy.Process).Kill},
	} {
		first := w.nftproxy
		next := w.startWaiting(t)
		l.goOn(t)
		w.apply(t, other.to(ready(a, c))) // by the first one
		was := w.generation(t)
		l.goOn(t)
		end.by(first)
		w.nftproxy = next
		w.wantLog(t, "Programmed all services")
		if log := next.Log(); !strings.Contains(log, "changes=0 ") && !strings.Contains(log, "changes=2 ") { // which take the tables over
			t.Errorf("%s: it wrote what was there:\n%s", end.name, log)
		}
		if now := w.generation(t); now > was+2 { // of the lock, and the take-over
			t.Errorf("%s: %d transactions, want only those of the lock and of the take-over", end.name, now-was)
		}
		w.wantEverywhere(t, other, spread(a, c))
		w.apply(t, other.to(ready(b)))
		w.wantEverywhere(t, other, spread(b))
		l.goOn(t)
	}
	l.end()
	checkAll(t, l.cycles)
	for _, err := range l.failed() {
		t.Error(err)
	}
}

// A change that the first nftproxy did not get to make is the next one's.
func TestHandOverOfChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	a, b := w.Local[0], w.RemotePods[0]
	kept, changed, gone := w.service("kept").to(ready(a, b)), w.service("changed").to(ready(a)), w.service("gone").to(ready(b))
	w.apply(t, kept, changed, gone)
	next := w.startWaiting(t, "--masquerade-bit", "15") // which changes rules, too
	l := startLoad(t, w, kept, a, b)
	if err := syscall.Kill(w.nftproxy.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.put(t, changed.to(ready(b)).objects()...)
	if err := w.manifests.Delete(gone.objects()...); err != nil {
		t.Fatal(err)
	}
	fresh := w.service("fresh").to(ready(a))
	w.put(t, fresh.objects()...)
	l.goOn(t)
	w.nftproxy.Kill()
	w.nftproxy = next
	w.wantLog(t, "Programmed all services")
	w.programmed(t)
	w.wantEverywhere(t, changed, spread(b))
	w.wantEverywhere(t, fresh, spread(a))
	w.wantEverywhere(t, gone, dropped())
	l.goOn(t)
	l.end()
	checkAll(t, l.cycles)
	for _, err := range l.failed() {
		t.Error(err)
	}
}

// startWaiting starts another nftproxy, which waits, and returns when it could take over.
func (w *world) startWaiting(t *testing.T, args ...string) *proxy.Process {
	t.Helper()
	p, err := proxy.Start(w.process(append(w.args[:len(w.args):len(w.args)], args...)...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if w.nftproxy != p {
			p.Kill()
		}
	})
	if err := p.WaitLog(patient(t), "Ready to take over"); err != nil {
		t.Fatal(err)
	}
	return p
}

func (w *world) generation(t *testing.T) uint32 {
	t.Helper()
	gen, err := proxy.Generation(w.Node.NS)
	if err != nil {
		t.Fatal(err)
	}
	return gen
}
