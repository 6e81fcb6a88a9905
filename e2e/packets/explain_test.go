// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// TestExplain compares what `nftproxy explain` says with packets, where TestServiceAPI
// has no row: endpoints of another zone, a pod that reaches itself, and a client that
// is remembered.
func TestExplain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	w.put(t, nodeObject(zone("a")))
	here, there := w.Local[0], w.RemotePods[0]
	zones := w.service("zones").to(hinted(here, []string{"a"}, nil), hinted(there, []string{"b"}, nil))
	self := w.service("self").to(ready(w.Client))
	pinned := w.service("pinned", sticky(10800)).to(ready(here, there))
	w.apply(t, zones, self, pinned)

	each(t, func(t *testing.T, p traffic.Protocol, f netns.Family) {
		for s, want := range map[*svc]expected{zones: spread(here), self: spread(w.Client)} {
			to := s.at(f, servicePort)
			w.want(t, w.Client, p, to, want)
			if err := w.explain(t, s).check(w, w.Client, p, to, want); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("affinity", func(t *testing.T) {
		client := traffic.Client{NS: w.Client.NS}
		for _, f := range netns.Families() {
			to := pinned.at(f, servicePort)
			before := w.explain(t, pinned)
			if err := before.check(w, w.Client, traffic.TCP, to, spread(here, there)); err != nil {
				t.Errorf("before the first connection: %v", err)
			}
			r := client.Connect(t.Context(), traffic.TCP, to)
			said, _ := w.explain(t, pinned).client(w.Client.Addr(f), traffic.TCP, to)
			if r.Outcome != traffic.Answered || len(said.To) != 1 || said.To[0].Address != r.Backend.String() {
				t.Errorf("explain says answers come from %v, it came: %s", said.To, r)
			}
			if why := strings.Join(said.Why, "; "); !strings.Contains(why, "stays with "+r.Backend.String()) {
				t.Errorf("explain gives the reason %q", why)
			}
			if text := w.run(t, "explain", to.String(), "--kernel", "--from", w.Client.Addr(f).String()); !strings.Contains(text, "stays with "+r.Backend.String()) {
				t.Errorf("from the kernel alone explain says\n%s", text)
			}
			w.apply(t, pinned.to(ready(w.Local[1], w.RemotePods[1])))
			said, _ = w.explain(t, pinned).client(w.Client.Addr(f), traffic.TCP, to)
			if why := strings.Join(said.Why, "; "); len(said.To) != 2 || !strings.Contains(why, "the endpoint that "+w.Client.Addr(f).String()+" was with is gone") {
				t.Errorf("explain says of a client whose endpoint is gone that answers come from %v, for the reason %q", said.To, why)
			}
			if text := w.run(t, "explain", to.String(), "--kernel", "--from", w.Client.Addr(f).String()); strings.Contains(text, "stays with "+r.Backend.String()) {
				t.Errorf("from the kernel alone explain says of a client whose endpoint is gone\n%s", text)
			}
			w.apply(t, pinned.to(ready(here, there)))
		}
	})
}

// TestFromKernel: what the kernel alone tells, and what it needs another source for.
func TestFromKernel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	web := w.full("web", externalLocal).to(ready(w.Local[0], w.RemotePods[0]))
	one := w.service("one").to(ready(w.Local[0]))
	w.apply(t, web, one)
	source := w.args[1:]

	var e explained
	text := w.run(t, "explain", "test/web", "--kernel", "-o", "json", "--cluster-cidr", netns.ClusterCIDR4+","+netns.ClusterCIDR6,
		"--from", w.Client.V4.String(), "--from", w.Client.V6.String(), "--from", w.Outside.V4.String(), "--from", w.Outside.V6.String())
	if err := json.Unmarshal([]byte(text), &e.Explanation); err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, p traffic.Protocol, f netns.Family) {
		for _, fe := range external {
			to := w.address(web, fe, p, f)
			w.wantSaid(t, e, w.Client, p, to, spread(w.Local[0], w.RemotePods[0]).seen(asItself))
			w.wantSaid(t, e, w.Outside, p, to, spread(w.Local[0]).seen(asItself))
		}
		w.wantSaid(t, e, w.Outside, p, web.at(f, servicePort), spread(w.Local[0], w.RemotePods[0]))
	})
	at := one.at(netns.IPv4, servicePort).String()
	if out := w.run(t, "explain", at+"/udp", "--kernel"); !strings.Contains(out, "goes to "+w.Local[0].V4.String()+":8080") {
		t.Errorf("of a frontend with one endpoint explain says\n%s", out)
	}
	for _, args := range [][]string{{"explain", "test/one", "--kernel"}, {"dump", "--kernel", "--service", "test/one"}} {
		if out := w.fails(t, 2, args...); !strings.Contains(out, "the kernel has no chain of a Service test/one") {
			t.Errorf("%s: %s", args, out)
		}
	}
	dump := w.run(t, "dump", "--kernel", "--service", "test/web")
	both := w.run(t, append([]string{"dump", "--kernel", "--service", "test/one"}, source...)...)
	if !strings.Contains(dump, "chain external/test/web/tcp {") || strings.Contains(dump, at[:len(at)-3]+" ") {
		t.Errorf("of test/web the kernel has\n%s", dump)
	}
	if !strings.Contains(both, "map single {") || strings.Contains(both, "test/web") {
		t.Errorf("of test/one the kernel has\n%s", both)
	}
	if want := w.run(t, append([]string{"dump", "--service", "test/one"}, source...)...); want != both {
		t.Errorf("of test/one the kernel has\n%s\nit should have\n%s", both, want)
	}
}

// TestDumpLoads: nft loads a dump of the kernel into a namespace without tables, which
// then treats packets in the same way and gives the same dump.
func TestDumpLoads(t *testing.T) {
	t.Parallel()
	netnstest.Tool(t, "nft")
	// nft 1.0.6 does not know the flag persist.
	w := newWorld(t, config{node: true, args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2", "--own-tables=never"}})
	rows := apiRows(w)
	if netns.InUserNamespace() {
		rows = rows[:len(rows)/3] // nft sends all at once, and the buffer is small
	}
	services := make([]*svc, len(rows))
	for i, r := range rows {
		services[i] = w.full(nameOf(r.name), r.options...).to(r.endpoints(w)...)
		w.put(t, services[i].objects()...)
	}
	w.programmed(t)
	w.stop(t)
	dump := w.run(t, "dump", "--kernel")
	if listing := w.listRuleset(t); listing != netnstest.AsListed(dump) {
		t.Error("the dump is not what nft lists")
	}
	w.run(t, "cleanup")
	w.loadRuleset(t, dump)
	if again := w.run(t, "dump", "--kernel"); again != dump {
		t.Error("a second dump differs")
	}
	for i, r := range rows {
		if strings.Contains(r.name, "ipMode") {
			continue // takes long, and no rule is for it
		}
		for j, want := range []expected{r.pod, r.node, r.outsider} {
			if want.outcome == 0 {
				continue
			}
			for _, f := range netns.Families() {
				to := w.address(services[i], r.to[0], traffic.TCP, f)
				if err := w.check(t.Context(), w.clients()[j], traffic.TCP, to, want); err != nil {
					t.Errorf("%s: from %s to %s: %v", r.name, w.clients()[j].Name(), to, err)
				}
			}
		}
	}
}

// TestDiff: equal, drift and no tables, by exit codes and words.
func TestDiff(t *testing.T) {
	t.Parallel()
	netnstest.Tool(t, "nft")
	w := newWorld(t, config{})
	web := w.service("web", sticky(10800)).to(ready(w.Local[0], w.RemotePods[0]))
	w.apply(t, web, w.service("one").to(ready(w.Local[0])))
	diff := append([]string{"diff"}, w.args[1:]...)
	w.connect(t, web)
	if out := w.run(t, diff...); !strings.HasPrefix(out, "equal: ") {
		t.Errorf("diff says %q where nothing differs", out)
	}
	w.stop(t)
	w.loadRuleset(t, `
		delete element ip nftproxy cluster-ips { 10.96.0.1 }
		add chain ip nftproxy mine
		flush chain ip6 nftproxy nodeports
		add element ip nftproxy service-ips { 10.96.0.9 . tcp . 99 : goto no-endpoints }
		delete element ip nftproxy single { 10.96.0.2 . udp . 80 }
		add element ip nftproxy single { 10.96.0.2 . udp . 80 : 10.244.1.3 . 8080 }`)
	out := w.fails(t, 1, diff...)
	for _, want := range []string{
		"missing    ip   element of cluster-ips: 10.96.0.1\n",
		"extra      ip   chain mine\n",
		"different  ip6  chain nodeports\n    + meta l4proto . th dport @masquerade-nodeports",
		"extra      ip   element of service-ips: 10.96.0.9 . tcp . 99 : goto no-endpoints\n",
		"different  ip   element of single\n    - 10.96.0.2 . udp . 80 : 10.244.1.3 . 8080\n    + 10.96.0.2 . udp . 80 : 10.244.1.2 . 8080\n",
		"1 missing, 2 extra, 2 different\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("diff does not say %q:\n%s", want, out)
		}
	}
	if out := w.fails(t, 1, append(diff, "-o", "json")...); !strings.Contains(out, `"equal": false`) || !strings.Contains(out, `"object": "chain mine"`) {
		t.Errorf("as JSON diff says\n%s", out)
	}
	if e := w.explain(t, web); e.Kernel.Holds == nil || *e.Kernel.Holds {
		t.Errorf("explain says that the kernel holds just that: %+v", e.Kernel)
	}
	if out := w.fails(t, 1, append(diff, "--masquerade-all")...); !strings.Contains(out, "were the options those of 'nftproxy run'") {
		t.Errorf("with other options diff says\n%s", out)
	}
	w.run(t, "cleanup")
	if out := w.fails(t, 2, diff...); !strings.Contains(out, "this node has no table named nftproxy") {
		t.Errorf("without tables diff says %q", out)
	}
	if out := w.fails(t, 2, "explain", "10.96.0.1:80", "--kernel"); !strings.Contains(out, "this node has no table named nftproxy") {
		t.Errorf("without tables explain says %q", out)
	}
}

// connect connects to a service, so that the client is remembered.
func (w *world) connect(t *testing.T, s *svc) {
	t.Helper()
	client := traffic.Client{NS: w.Client.NS}
	if r := client.Connect(t.Context(), traffic.TCP, s.at(netns.IPv4, servicePort)); r.Outcome != traffic.Answered {
		t.Fatal(r)
	}
}
