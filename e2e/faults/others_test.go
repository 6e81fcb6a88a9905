// SPDX-License-Identifier: Apache-2.0

//go:build linux

package faults

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

const othersRow = "other programs' rules"

// neighbour is another program that has rules on the node.
type neighbour struct {
	name string
	// install makes its rules.
	install func(w *world)
	// blocks says that it lets no forwarded packet through: what the node itself sends is served all the same.
	blocks bool
	// check is what the command check says of it; empty: nothing that must be there.
	check string
}

// docker is what Docker 27 writes for its bridge and a container that publishes port 8081 as 80, without the policy of its forward
// chain.
const docker = `*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8081 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
`

// portmap is what the CNI plugin portmap writes for a pod with the host port 8082.
const portmap = `*nat
:CNI-HOSTPORT-SETMARK - [0:0]
:CNI-HOSTPORT-MASQ - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-DN-3f2a1b5c6d7e8f9a0b1c2 - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"net\" id: \"x\"" -m multiport --dports 8082 -j CNI-DN-3f2a1b5c6d7e8f9a0b1c2
-A CNI-DN-3f2a1b5c6d7e8f9a0b1c2 -s 10.244.1.0/24 -p tcp -m tcp --dport 8082 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-3f2a1b5c6d7e8f9a0b1c2 -p tcp -m tcp --dport 8082 -j DNAT --to-destination 10.244.1.2:80
COMMIT
`

func neighbours() []neighbour {
	restore := func(text string) func(w *world) {
		return func(w *world) { w.iptables(text) }
	}
	return []neighbour{
		{name: "Docker's", install: restore(docker)},
		{name: "Docker's, with its forward policy of drop", install: restore(docker + "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"), blocks: true, check: "FORWARD"},
		{name: "portmap's", install: restore(portmap)},
		{name: "firewalld's", install: func(w *world) {
			text, err := os.ReadFile("testdata/firewalld-1.3.3.nft") // what firewalld 1.3.3 has in Debian 12 at its start
			w.must(err)
			w.must(w.nft(string(text)))
		}},
		{name: "a forward policy of drop", install: func(w *world) {
			w.must(w.nft("add table inet site\nadd chain inet site forward { type filter hook forward priority 0; policy drop; }"))
		}, blocks: true, check: "inet site"},
	}
}

// iptables restores rules of iptables, beside those that there are.
func (w *world) iptables(text string) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), netnstest.Tool(w.t, "iptables-nft-restore"), "--noflush")
	cmd.Stdin = strings.NewReader(text)
	var out []byte
	err := w.Node.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err })
	if err != nil {
		w.t.Fatalf("iptables-nft-restore: %v\n%s", err, out)
	}
}

var (
	counts  = regexp.MustCompile(`counter packets \d+ bytes \d+`)
	oursOut = regexp.MustCompile(`(?ms)^table ip6? nftproxy \{.*?^\}\n`)
)

// theirs lists the node's rules without ours and without counts.
func (w *world) theirs() string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), netnstest.Tool(w.t, "nft"), "list", "ruleset")
	var out []byte
	w.must(w.Node.Do(func() (err error) { out, err = cmd.Output(); return err }))
	return counts.ReplaceAllString(oursOut.ReplaceAllString(string(out), ""), "")
}

// TestNeighbours: what other programs have on the node stays as it is, whatever nftproxy does, and Services are served, or check says
// what blocks them.
func TestNeighbours(t *testing.T) {
	for _, n := range neighbours() {
		t.Run(n.name, func(t *testing.T) {
			w := newWorld(t)
			w.args = append(w.args, "--own-tables=never") // or nobody could delete them
			n.install(w)
			before := w.theirs()
			w.put(0, w.pod(2), w.pod(3))
			w.put(1, w.pod(4))
			w.start()
			targets := w.targets(0)
			if n.blocks {
				targets = nil
				for _, f := range netns.Families() {
					for _, p := range traffic.Protocols() {
						targets = append(targets, Target{From: w.Node, Protocol: p, To: w.at(0, f)})
					}
				}
			}
			l, err := Start(t.Context(), targets...)
			w.must(err)
			t.Cleanup(func() { l.End() })
			w.put(1, w.pod(3))
			w.programmed()
			want := w.state()
			w.must(w.nft("delete table ip nftproxy"))
			right, err := w.right(want, netns.Patience())
			w.must(err)
			l.End() // what was made without our table may have failed

			l, err = Start(t.Context(), targets...)
			w.must(err)
			t.Cleanup(func() { l.End() })
			w.must(w.nftproxy.Stop())
			w.start()
			w.must(l.GoOn(w.patient(), 50))
			counts := l.End()
			w.equal()
			note := ""
			if n.check != "" {
				out, err := proxy.Run(w.patient(), w.process("check", "--manifests", w.manifests.Dir))
				if !strings.Contains(out, n.check) {
					t.Errorf("check does not name %q: %v\n%s", n.check, err, out)
				}
				note = "what the node itself sends; check names what blocks the rest"
			}
			w.must(w.nftproxy.Stop())
			if out, err := proxy.Run(w.patient(), w.process("cleanup")); err != nil {
				t.Errorf("cleanup: %v\n%s", err, out)
			}
			if after := w.theirs(); after != before {
				t.Errorf("theirs have changed, from\n%s\nto\n%s", before, after)
			}
			Record(t, Result{Row: othersRow, Fault: n.name + " rules: a change, a repair, a restart", Counts: counts, Right: right, Note: note})
		})
	}
}
