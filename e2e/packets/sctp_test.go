// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// needSCTP skips a test that is about the kernel's own SCTP where there is none. All other tests send SCTP packets, too: there
// they make no association.
func needSCTP(t *testing.T) {
	t.Helper()
	if !traffic.KernelSCTP() {
		t.Skip("this kernel has no SCTP: the module sctp is not there, or may not be loaded")
	}
}

// eachSCTP runs a test for each frontend of a service over each family from each kind of client.
func (w *world) eachSCTP(t *testing.T, s *svc, test func(t *testing.T, from netns.Host, to netip.AddrPort)) {
	t.Helper()
	for _, fe := range []frontend{clusterIP, nodePort, loadBalancer, externalIP} {
		for _, f := range netns.Families() {
			for _, from := range w.clients() {
				to := w.address(s, fe, traffic.SCTP, f)
				t.Run(fmt.Sprintf("from %s to %s", from.Name(), to), func(t *testing.T) { test(t, from, to) })
			}
		}
	}
}

// Several associations at a time, each with an endpoint of its own turn, with which it stays: for messages of one packet and of
// many, and while others end.
func TestSCTPAssociations(t *testing.T) {
	t.Parallel()
	needSCTP(t)
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	hosts := []netns.Host{w.Local[0], w.RemotePods[0], w.RemotePods[1]}
	s := w.applied(t, w.full("web").to(ready(hosts...)))
	w.eachSCTP(t, s, func(t *testing.T, from netns.Host, to netip.AddrPort) {
		var all []*established
		var first []traffic.Result
		for range 2 * len(hosts) {
			e := establish(t, from, traffic.SCTP, to)
			r := e.Ask(t.Context())
			if first = append(first, r); r.Outcome != traffic.Answered {
				t.Fatal(r)
			}
			e.backend = r.Backend
			all = append(all, e)
		}
		if err := inTurn(first, spread(hosts...).addresses(familyOf(to.Addr()))); err != nil {
			t.Error(err)
		}
		long := 20_000
		if from.NS == w.Node.NS && to.Addr() == w.Node.Addr(familyOf(to.Addr())) {
			// By its route over lo SCTP takes packets to be 64 KiB long, and learns on the way that they are not. It sends them
			// again when its timer says so: in these tests after a minute.
			long = 1000
		}
		for _, more := range []int{0, long, 0} {
			for _, e := range all {
				if r := e.AskLong(t.Context(), more); r.Outcome != traffic.Answered || r.Backend != e.backend {
					t.Errorf("a message of %d bytes: %s, want an answer by %s as before", more, r, e.backend)
				}
			}
		}
		for _, e := range all[len(hosts):] {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
		for _, e := range all[:len(hosts)] {
			if e.ask(t); e.err != nil {
				t.Error(e.err)
			}
		}
	})
}

// mute makes a host send no SCTP packet until the function is called that it returns: what ends then, ends without a word.
func mute(t *testing.T, h netns.Host) (speak func()) {
	t.Helper()
	nft := func(script string) {
		t.Helper()
		cmd := exec.CommandContext(patient(t), netnstest.Tool(t, "nft"), "-f", "-")
		cmd.Stdin = strings.NewReader(script)
		var out []byte
		if err := h.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err }); err != nil {
			t.Fatalf("nft -f - in %s: %v\n%s", h.Name(), err, out)
		}
	}
	nft("table inet mute { chain output { type filter hook output priority 0; meta l4proto 132 drop; }; }")
	return func() { t.Helper(); nft("delete table inet mute") }
}

// serveSCTP answers at one port of a host.
func serveSCTP(t *testing.T, h netns.Host, port uint16) *traffic.Server {
	t.Helper()
	s, err := traffic.Serve(h.NS, traffic.Endpoints([]netip.Addr{h.V4, h.V6}, []uint16{port}, traffic.SCTP)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// An endpoint's program that restarts, with a word to its clients or without one, has its clients back at the next question;
// while it is away they are refused. So has a client that restarts and comes from the same port.
func TestSCTPRestarts(t *testing.T) {
	t.Parallel()
	needSCTP(t)
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	const own = 9090 // a port where only this test answers
	host := w.Local[0]
	s := w.full("web")
	for i := range s.Spec.Ports {
		s.Spec.Ports[i].TargetPort.IntVal = own
	}
	w.apply(t, s.to(ready(host)))
	server := serveSCTP(t, host, own)
	open := func(t *testing.T, from netns.Host, to netip.AddrPort) *established {
		t.Helper()
		e := establish(t, from, traffic.SCTP, to)
		if e.ask(t); e.err != nil {
			t.Fatal(e.err)
		}
		return e
	}
	again := func(t *testing.T, e *established) {
		t.Helper()
		if r := e.Ask(t.Context()); r.Outcome == traffic.Answered || r.Outcome == traffic.TimedOut {
			t.Errorf("the first question after the restart: %s, want an error at once", r)
		}
		if e.ask(t); e.err != nil {
			t.Errorf("the next one: %v", e.err)
		}
	}
	restart := func() { server = serveSCTP(t, host, own) } // until this test ends
	w.eachSCTP(t, s, func(t *testing.T, from netns.Host, to netip.AddrPort) {
		t.Run("the endpoint ends and begins", func(t *testing.T) {
			e := open(t, from, to)
			if err := server.Close(); err != nil {
				t.Fatal(err)
			}
			for range 2 { // on the association that there was, and on a new one
				if r := e.Ask(t.Context()); r.Outcome == traffic.Answered || r.Outcome == traffic.TimedOut {
					t.Errorf("while nobody listens: %s, want an error at once", r)
				}
			}
			restart()
			if e.ask(t); e.err != nil {
				t.Error(e.err)
			}
		})
		t.Run("the endpoint ends without a word", func(t *testing.T) {
			e := open(t, from, to)
			speak := mute(t, host)
			err := server.Abort()
			speak()
			if err != nil {
				t.Fatal(err)
			}
			restart()
			again(t, e)
		})
		t.Run("the client ends without a word", func(t *testing.T) {
			client := traffic.Client{NS: from.NS, Source: netip.AddrPortFrom(netip.Addr{}, from.NextPort())}
			for i := range 2 {
				conn, err := client.Open(t.Context(), traffic.SCTP, to)
				if err != nil {
					t.Fatal(err)
				}
				if r := conn.Ask(t.Context()); r.Outcome != traffic.Answered {
					t.Errorf("time %d from port %d: %s", i+1, client.Source.Port(), r)
				}
				speak := mute(t, from)
				err = conn.Close() // the port is the test's choice, so that this aborts the association
				speak()
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	})
}

// A Service without endpoints refuses over IPv4 by the first packet; over IPv6 SCTP takes no notice. Where an endpoint
// does not listen, both hear it from the endpoint.
func TestSCTPRefusal(t *testing.T) {
	t.Parallel()
	needSCTP(t)
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	none, deaf := w.full("none").to(), w.full("deaf")
	for i := range deaf.Spec.Ports {
		deaf.Spec.Ports[i].TargetPort.IntVal = 9090
	}
	w.apply(t, none, deaf.to(ready(w.Local[0], w.RemotePods[0])))
	w.eachSCTP(t, none, func(t *testing.T, from netns.Host, to netip.AddrPort) { w.want(t, from, traffic.SCTP, to, refused()) })
	w.eachSCTP(t, deaf, func(t *testing.T, from netns.Host, to netip.AddrPort) {
		if r := (traffic.Client{NS: from.NS}).Connect(t.Context(), traffic.SCTP, to); r.Outcome != traffic.Refused {
			t.Errorf("%s, want an endpoint's refusal", r)
		}
	})
}
