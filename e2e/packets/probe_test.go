// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// TestProbe: of each way to break a connection the verdict is right, from here and from a pod, and nothing is left behind.
func TestProbe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{node: true})
	if !w.hasOwnedTables(t) {
		t.Skip("this kernel has no tables that have an owner")
	}
	for _, b := range w.brokenWays(t) {
		for p, want := range map[string]string{"tcp": b.tcp, "udp": b.udp} {
			if p == "udp" && strings.HasSuffix(want, "answered") {
				continue // nobody answers an empty datagram
			}
			for _, f := range netns.Families() {
				args := []string{"explain", b.service.at(f, b.port).String() + "/" + p, "--probe", "--manifests", w.manifests.Dir, "--hostname-override", "node"}
				if b.from != w.Node {
					args = append(args, "--netns", b.from.Path())
				}
				out := w.run(t, args...)
				if _, verdict, _ := strings.Cut(out, "Verdict: "); !strings.Contains(verdict, want) {
					t.Errorf("%s, %s %s: no verdict %q in\n%s", b.name, p, f, want, out)
				}
				if w.traced(t) {
					t.Errorf("%s: the table stays", b.name)
				}
			}
		}
	}
}

// TestProbeFromPod: a pod's network namespace is found by its address, the pod by its name where it is an endpoint, and a connection
// that the pod makes itself is followed as well. What the nftproxy that runs knows is enough.
func TestProbeFromPod(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "TABLE.sock")
	w := newWorld(t, config{args: []string{"--socket", socket}})
	if !w.hasOwnedTables(t) {
		t.Skip("this kernel has no tables that have an owner")
	}
	// Network namespaces are found by their processes, all of this machine: it has an address that no other test's has.
	own := []string{fmt.Sprintf("10.201.%d.%d", os.Getpid()>>8&0xff, os.Getpid()&0xff), fmt.Sprintf("fd00:201::%x", os.Getpid()&0xffff)}
	giveAddresses(t, w.Client.NS, own)
	pod := exec.Command(netnstest.Tool(t, "cat"))
	input, err := pod.StdinPipe()
	if err == nil {
		err = w.Client.Do(pod.Start)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = input.Close(), pod.Wait() }()
	s := w.service("web").to(ready(w.RemotePods[0]))
	w.apply(t, s)
	const answered = "from the client's own address: answered"
	for _, address := range own {
		from := netip.MustParseAddr(address)
		out := w.run(t, "explain", "test/web", "--probe", "--from-pod", address, "--socket", socket)
		if !strings.Contains(out, "One connection "+fromText(w.Client, netip.AddrPortFrom(from, 1))) || !strings.Contains(out, answered) || !strings.Contains(out, ": connected\n") || !strings.Contains(out, "straight to the endpoint") {
			t.Errorf("from %s:\n%s", from, out)
		}
	}
	if out := w.run(t, "explain", "test/web", "--probe", "--from-pod", w.Node.V4.String(), "--socket", socket); !strings.Contains(out, "One connection "+w.Node.V4.String()) || !strings.Contains(out, ": answered") {
		t.Errorf("from the node's own network:\n%s", out)
	}
	if out := w.fails(t, 2, "explain", "test/web", "--probe", "--from-pod", "10.99.99.99", "--socket", socket); !strings.Contains(out, " has 10.99.99.99") {
		t.Errorf("of a pod that is not here: %s", out)
	}
	await, err := proxy.Start(w.process("explain", "test/web", "--probe", "--from-pod", w.Client.V4.String()+","+w.Client.V6.String(), "--await", "--socket", socket, "-o", "json"))
	if err != nil {
		t.Fatal(err)
	}
	defer await.Kill()
	to := s.at(netns.IPv4, servicePort)
	if err := await.WaitLog(patient(t), "waiting for a connection from "+w.Client.V4.String()+" to "+to.String()+"/tcp\n"); err != nil {
		t.Fatal(err)
	}
	client := traffic.Client{NS: w.Client.NS, Timeout: time.Second}
	client.Connect(t.Context(), traffic.TCP, to)
	if err := await.Wait(patient(t)); err != nil || !strings.Contains(await.Log(), answered) || !strings.Contains(await.Log(), `"endpoint": "`+netip.AddrPortFrom(w.RemotePods[0].V4, backendPort).String()+`"`) {
		t.Errorf("of a connection that it made itself: %v\n%s", err, await.Log())
	}
}

// giveAddresses gives the loopback interface of a namespace more addresses.
func giveAddresses(t *testing.T, ns *netns.NS, list []string) {
	t.Helper()
	handle, err := ns.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	lo, err := handle.LinkByName("lo")
	for _, address := range list {
		var a *netlink.Addr
		if err == nil {
			a, err = netlink.ParseAddr(address + map[bool]string{true: "/128", false: "/32"}[strings.Contains(address, ":")])
		}
		if err == nil {
			err = handle.AddrAdd(lo, a)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
