// SPDX-License-Identifier: Apache-2.0

package app

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/inspect"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

const (
	ipv4, ipv6 = 1 << rules.IPv4, 1 << rules.IPv6
	both       = ipv4 | ipv6
)

// TestCleanup: what is removed with which processes and tables there, and when nothing is.
func TestCleanup(t *testing.T) {
	const nftproxy, kubeProxy = "/nftproxy run --config x", "kube-proxy --config x"
	for _, tt := range []struct {
		name         string
		cleanup      cleanup
		processes    []string
		ours, theirs int    // families of the tables that are there
		endpoints    int    // families in which ours have any
		legacy       string // /proc/net/ip_tables_names
		ipvs         string // /proc/net/ip_vs
		want         string
		refused      bool
	}{
		{name: "nothing is there", want: "removed 0 of the tables ip nftproxy and ip6 nftproxy\n"},
		{name: "nobody runs", ours: both, endpoints: both, want: "removed 2 of"},
		{name: "nftproxy runs", ours: both, processes: []string{nftproxy}, want: "nftproxy is running as process 1 and would write its tables again", refused: true},
		{name: "nftproxy runs, and has none yet", processes: []string{nftproxy}, want: "nftproxy is running as process 1", refused: true},
		{name: "one of another name runs", ours: both, processes: []string{"/nftproxy run --service-proxy-name=other"}, want: "removed 2 of"},
		{name: "of the two only the other's", cleanup: cleanup{proxyName: "other"}, ours: both, processes: []string{nftproxy}, want: "removed 0 of the tables ip nftproxy-other"},
		{name: "that of this name runs", cleanup: cleanup{proxyName: "other"}, processes: []string{nftproxy, "nftproxy --v=1 run --unheard-of --service-proxy-name other"}, want: "running as process 2", refused: true},
		{name: "another command runs", ours: both, processes: []string{"nftproxy top --interval 3s"}, want: "removed 2 of"},

		{name: "going back: kube-proxy serves", ours: both, endpoints: both, theirs: both, processes: []string{kubeProxy}, want: "removed 2 of"},
		{name: "going back: kube-proxy has no rules yet", ours: both, endpoints: both, processes: []string{kubeProxy}, want: "kube-proxy is running as process 1, but has no rules for Services yet", refused: true},
		{name: "going back: only those of IPv4", ours: both, endpoints: both, theirs: ipv4, processes: []string{kubeProxy}, want: "could replace table ip6 nftproxy", refused: true},
		{name: "going back: only those of IPv4, and no more is needed", ours: both, endpoints: ipv4, theirs: ipv4, processes: []string{kubeProxy}, want: "removed 2 of"},
		{name: "going back: no table of ours", processes: []string{kubeProxy}, want: "removed 0 of"},
		{name: "going back: kube-proxy uses legacy iptables", ours: both, endpoints: both, legacy: "filter\nnat\n", processes: []string{kubeProxy}, want: "removed 2 of"},
		{name: "going back: another program uses legacy iptables", ours: both, endpoints: both, legacy: "filter\n", processes: []string{kubeProxy}, want: "no rules for Services yet", refused: true},
		{name: "going back: kube-proxy uses IPVS", ours: both, endpoints: both, ipvs: "head\nhead\nhead\nTCP  0A600001:01BB rr\n", processes: []string{kubeProxy}, want: "removed 2 of"},
		{name: "going back: IPVS is empty", ours: both, endpoints: both, ipvs: "head\nhead\nhead\n", processes: []string{kubeProxy}, want: "no rules for Services yet", refused: true},
		{name: "going back: nftproxy still runs", ours: both, endpoints: both, theirs: both, processes: []string{kubeProxy, nftproxy}, want: "nftproxy is running as process 2", refused: true},

		{name: "changing over", cleanup: cleanup{kubeProxy: true}, ours: both, endpoints: both, theirs: both, processes: []string{nftproxy},
			want: "nftproxy is running as process 1: its tables stay\nremoved kube-proxy's table ip kube-proxy\nremoved kube-proxy's table ip6 kube-proxy\n"},
		{name: "changing over: kube-proxy still runs", cleanup: cleanup{kubeProxy: true}, ours: both, theirs: both, processes: []string{nftproxy, kubeProxy}, want: "kube-proxy is running as process 2", refused: true},
		{name: "changing over: nftproxy has no tables yet", cleanup: cleanup{kubeProxy: true}, theirs: both, processes: []string{nftproxy}, want: "there is no table ip nftproxy yet", refused: true},
		{name: "changing over: nftproxy has one table", cleanup: cleanup{kubeProxy: true}, ours: ipv4, endpoints: ipv4, theirs: both, processes: []string{nftproxy}, want: "there is no table ip6 nftproxy yet", refused: true},
		{name: "all goes", cleanup: cleanup{kubeProxy: true}, ours: both, theirs: both, want: "removed 2 of the tables ip nftproxy and ip6 nftproxy\nremoved kube-proxy's table ip kube-proxy\nremoved kube-proxy's table ip6 kube-proxy\n"},
		{name: "all goes, with only kube-proxy running", cleanup: cleanup{kubeProxy: true}, ours: both, theirs: both, processes: []string{kubeProxy}, want: "kube-proxy is running", refused: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newCleanupNode(t, tt.processes, map[string]string{"ip_tables_names": tt.legacy, "ip_vs": tt.ipvs})
			n.load("nftproxy", tt.ours, tt.endpoints)
			n.load("kube-proxy", tt.theirs, tt.theirs)
			before := n.tables()
			tt.cleanup.root = n.root
			var out strings.Builder
			err := n.ns.Do(func() error { return tt.cleanup.run(&out) })
			said := out.String()
			if err != nil {
				said += err.Error()
			}
			if (err != nil) != tt.refused || !strings.Contains(said, tt.want) {
				t.Errorf("said %q; want %q, refused: %v", said, tt.want, tt.refused)
			}
			want := before
			if !tt.refused && !strings.Contains(said, "its tables stay") {
				want[0] = [2]inspect.Presence{}
			}
			if !tt.refused && tt.cleanup.kubeProxy {
				want[1] = [2]inspect.Presence{}
			}
			if tt.cleanup.proxyName != "" {
				want = before
			}
			if after := n.tables(); after != want || tt.refused != strings.HasSuffix(said, "; nothing is removed") {
				t.Errorf("before there was %v, now %v, and it said %q", before, after, said)
			}
		})
	}
}

// cleanupNode is a namespace with a /proc of its own.
type cleanupNode struct {
	t    *testing.T
	ns   *netns.NS
	k    *kernel.Kernel
	look *inspect.Inspector
	root string
}

// newCleanupNode makes a node on which commands run, as processes 1, 2, ..., with files in /proc/net.
func newCleanupNode(t *testing.T, commands []string, procNet map[string]string) *cleanupNode {
	t.Helper()
	n := &cleanupNode{t: t, root: t.TempDir()}
	var err error
	n.ns, err = netns.New("node")
	must(t, err)
	t.Cleanup(func() { must(t, n.ns.Close()) })
	must(t, n.ns.Do(func() (err error) { n.k, err = kernel.Open(); return err }))
	t.Cleanup(func() { must(t, n.k.Close()) })
	must(t, n.ns.Do(func() (err error) { n.look, err = inspect.Open(); return err }))
	t.Cleanup(func() { must(t, n.look.Close()) })
	fakeProcess(t, n.root, "self", "nftproxy", "nftproxy\x00cleanup", "net:[1]")
	for i, command := range commands {
		args := strings.Fields(command)
		fakeProcess(t, n.root, string(rune('1'+i)), filepath.Base(args[0]), strings.Join(args, "\x00")+"\x00", "net:[1]")
	}
	must(t, os.MkdirAll(filepath.Join(n.root, "proc/net"), 0o755))
	for name, text := range procNet {
		must(t, os.WriteFile(filepath.Join(n.root, "proc/net", name), []byte(text), 0o644))
	}
	return n
}

// load makes tables, in some families, with a Service in some.
func (n *cleanupNode) load(table string, families, services int) {
	n.t.Helper()
	config := rules.Config{Table: table}.WithDefaults()
	desired := rules.NewDesired(config, rules.Node{})
	for _, f := range rules.Families {
		if services&(1<<f) == 0 {
			continue
		}
		addrs := [2]string{rules.IPv4: "10.0.0.1 10.0.0.2", rules.IPv6: "fd00::1 fd00::2"}
		clusterIP, endpoint, _ := strings.Cut(addrs[f], " ")
		sp := rules.ServicePort{Name: rules.ServicePortName{Namespace: "shop", Name: "web"}, Family: f, Protocol: rules.TCP, ClusterIP: netip.MustParseAddr(clusterIP), Port: 80}
		endpoints := []rules.Endpoint{{Addr: netip.AddrPortFrom(netip.MustParseAddr(endpoint), 80), Ready: true}}
		desired.Update([]rules.Owned{{Owner: rules.Owner{ServicePortName: sp.Name, Family: f}, Objects: rules.Build(sp, endpoints, config, rules.Node{})}})
	}
	state := desired.State()
	for _, f := range rules.Families {
		if families&(1<<f) == 0 {
			state.Tables[f] = nil
		}
	}
	must(n.t, n.k.Apply(rules.Diff(rules.State{Name: table}, state)))
}

// tables says what is there.
func (n *cleanupNode) tables() (out [2][2]inspect.Presence) {
	n.t.Helper()
	for i, table := range []string{"nftproxy", "kube-proxy"} {
		var err error
		out[i], err = n.look.Presence(table)
		must(n.t, err)
	}
	return out
}
