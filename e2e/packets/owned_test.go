// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/inspect"
)

// needOwnedTables skips the test on a kernel that has no tables that belong to a process and outlive it.
func (w *world) needOwnedTables(t *testing.T) {
	t.Helper()
	can, err := w.kernel(t).CanOwn()
	if err != nil {
		t.Fatal(err)
	}
	if !can {
		t.Skip("this kernel has no tables that belong to a process and outlive it")
	}
}

// wantTenure says who may change the tables.
func (w *world) wantTenure(t *testing.T, owner, persist bool) {
	t.Helper()
	var tenures [2]*rules.Tenure
	err := w.Node.Do(func() error {
		i, err := inspect.Open()
		if err != nil {
			return err
		}
		defer func() { _ = i.Close() }()
		tenures, err = i.Tenures(rules.DefaultTable)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for f, tenure := range tenures {
		if tenure == nil || tenure.Owner != owner || tenure.Persist != persist {
			t.Errorf("table %d: %+v, want the flags owner: %t, persist: %t", f, tenure, owner, persist)
		}
	}
}

// TestOwnedTables: nobody can change the tables while nftproxy runs, everybody can look at them, and they outlive it.
func TestOwnedTables(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	w.needOwnedTables(t)
	a, b, c := w.Local[0], w.RemotePods[0], w.RemotePods[1]
	touched := w.service("touched").to(ready(a, b))
	single := w.service("single").to(ready(c))
	calm := w.service("calm").to(ready(a, b, c))
	w.apply(t, touched, single, calm)
	w.wantTenure(t, true, true)
	want := w.state(t)
	l := startLoad(t, w, calm, a, b, c)
	l.goOn(t)
	for _, v := range vandalism(t, w, touched, single) {
		if err := v.do(); err == nil && v.name != "the whole ruleset flushed" {
			t.Errorf("%s: that was possible", v.name)
		}
		if tx := rules.Diff(w.state(t), want); tx.Len() > 0 {
			t.Errorf("%s: %d operations would undo it", v.name, tx.Len())
		}
	}
	if strings.Contains(w.nftproxy.Log(), "Repaired") {
		t.Error("something was repaired")
	}
	l.goOn(t)
	w.wantLooks(t, calm)
	if out := w.fails(t, 1, "cleanup"); !strings.Contains(out, "stop it first; nothing is removed") {
		t.Errorf("cleanup while it runs: %s", out)
	}
	w.nftproxy.Kill()
	l.goOn(t)
	w.wantTenure(t, false, true)
	w.wantLooks(t, calm)
	w.start(t)
	w.wantTenure(t, true, true)
	if log := w.nftproxy.Log(); !strings.Contains(log, "changes=0 ") {
		t.Errorf("it wrote something at its start:\n%s", log)
	}
	l.goOn(t)
	l.end()
	checkAll(t, l.cycles)
	for _, err := range l.failed() {
		t.Error(err)
	}
	w.apply(t, touched.to(ready(c)))
	w.wantEverywhere(t, touched, spread(c))
	w.stop(t)
	if out := w.run(t, "cleanup"); !strings.Contains(out, "removed 2 of the tables") {
		t.Errorf("cleanup wrote %q", out)
	}
}

// wantLooks has the commands look that change nothing.
func (w *world) wantLooks(t *testing.T, s *svc) {
	t.Helper()
	source := w.args[1:]
	soon := (patience / 60).String() // long enough for some connections of the load
	for pattern, args := range map[string][]string{
		"^equal: ":                             append([]string{"diff"}, source...),
		"The kernel holds just that":           append([]string{"explain", "test/" + s.Name}, source...),
		"chain service/test/calm/tcp {":        {"dump", "--kernel"},
		"(?m)^test/calm":                       {"top", "--once", "--interval", soon},
		"test/calm":                            {"trace", "--for", soon},
		"(?m)^ok +owned tables +ip nftproxy: ": {"check", "--manifests", w.manifests.Dir},
	} {
		if out := w.run(t, args...); !regexp.MustCompile(pattern).MatchString(out) {
			t.Errorf("nftproxy %s: no %q in\n%s", args, pattern, out)
		}
	}
}

// TestOwnershipComesAndGoes: tables that anybody can change become nftproxy's own, and back, each in one transaction: no connection
// fails, open ones go on, and clients with session affinity stay with their endpoints.
func TestOwnershipComesAndGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--own-tables=never"}})
	w.needOwnedTables(t)
	a, b, c := w.Local[0], w.RemotePods[0], w.RemotePods[1]
	three := w.service("three").to(ready(a, b, c))
	loyal := w.service("loyal", sticky(10800)).to(ready(a, b, c))
	w.apply(t, three, loyal)
	w.wantTenure(t, false, false)
	backends := map[string]string{}
	for range 3 {
		w.wantLoyal(t, loyal, backends)
	}
	l := startLoad(t, w, three, a, b, c)
	for _, mode := range []string{"auto", "never", "auto"} {
		w.args[len(w.args)-1] = "--own-tables=" + mode
		l.goOn(t)
		w.stop(t)
		l.goOn(t)
		w.start(t)
		w.wantTenure(t, mode == "auto", mode == "auto")
		w.wantLoyal(t, loyal, backends)
		l.goOn(t)
	}
	l.end()
	for _, c := range l.cycles { // the turns begin anew with each replacement
		for _, r := range c.results {
			if r.Outcome != traffic.Answered {
				t.Errorf("%s to %s: %s", c.protocol, c.to, r)
			}
		}
	}
	for _, err := range l.failed() {
		t.Error(err)
	}
}

// wantLoyal connects from all clients, which must come to the same endpoints as before.
func (w *world) wantLoyal(t *testing.T, s *svc, backends map[string]string) {
	t.Helper()
	for _, from := range w.clients() {
		for _, f := range netns.Families() {
			name := fmt.Sprintf("from %s over %s", from.Name(), f)
			got := backendOf(t, from, traffic.TCP, s.at(f, servicePort)).String()
			if before, ok := backends[name]; ok && before != got {
				t.Errorf("%s: %s, before %s", name, got, before)
			}
			backends[name] = got
		}
	}
}

// TestHeldTables: of a table that another process owns, nftproxy says which process that is, and it goes on when that has ended.
func TestHeldTables(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	w.needOwnedTables(t)
	s := w.service("web").to(ready(w.Local[0], w.RemotePods[0]))
	w.apply(t, s)
	w.stop(t)
	other := w.openKernel(t)
	if err := other.Own(t.Context(), rules.DefaultTable); err != nil {
		t.Fatal(err)
	}
	p, err := proxy.Start(w.process(w.args...))
	if err != nil {
		t.Fatal(err)
	}
	w.nftproxy = p
	for _, want := range []string{"Could not take over the tables", "table ip nftproxy belongs to ", "Could not program the kernel; trying again"} {
		w.wantLog(t, want)
	}
	w.wantEverywhere(t, s, spread(w.Local[0], w.RemotePods[0]))
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.WaitSynced(patient(t)); err != nil {
		t.Fatal(err)
	}
	w.wantTenure(t, true, true)
}

// TestOwnedDump: the dump is what nft lists, but for the flag persist, which nft 1.0.6 does not know.
func TestOwnedDump(t *testing.T) {
	t.Parallel()
	netnstest.Tool(t, "nft")
	w := newWorld(t, config{})
	w.needOwnedTables(t)
	w.apply(t, w.service("web").to(ready(w.Local[0], w.RemotePods[0])), w.service("none"))
	flags := regexp.MustCompile(`(?m)^\tflags (?:owner|owner,persist|persist|)$`)
	for _, owned := range []bool{true, false} {
		dump := w.run(t, "dump", "--kernel")
		if listing := w.listRuleset(t); flags.ReplaceAllString(listing, "\tflags") != flags.ReplaceAllString(netnstest.AsListed(dump), "\tflags") {
			t.Errorf("the dump is not what nft lists:\n%s", dump)
		}
		if strings.Contains(dump, "\tflags owner,persist\n") != owned || strings.Contains(dump, "\tflags persist\n") == owned {
			t.Errorf("of its flags the dump says\n%s", dump)
		}
		if owned {
			w.stop(t)
		}
	}
}
