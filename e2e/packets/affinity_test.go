// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
	"github.com/nftproxy/nftproxy/rules"
)

func sticky(seconds int32) option {
	return func(s *corev1.Service) {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
	}
}

// backendOf makes connections to each address, which one backend must answer, and
// returns it.
func backendOf(t *testing.T, from netns.Host, p traffic.Protocol, to ...netip.AddrPort) netip.AddrPort {
	t.Helper()
	var backend netip.AddrPort
	for _, to := range to {
		for range 3 {
			// Which endpoint answers is what counts: a busy machine may take its time.
			r := traffic.Client{NS: from.NS, Timeout: patience}.Connect(t.Context(), p, to)
			switch {
			case r.Outcome != traffic.Answered:
				t.Fatalf("from %s to %s %s: %s", from.Name(), p, to, r)
			case !backend.IsValid():
				backend = r.Backend
			case r.Backend != backend:
				t.Fatalf("from %s to %s %s: %s, want %s as before", from.Name(), p, to, r, backend)
			}
		}
	}
	return backend
}

// Each client stays with its endpoint, whichever of the service's addresses it uses.
func TestAffinity(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{node: true, args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	a, b, c := w.Local[0], w.RemotePods[0], w.RemotePods[1]
	s := w.full("sticky", sticky(10800)).to(ready(a, b, c))
	host := w.full("on-the-node", sticky(10800)).to(ready(w.Node, b))
	w.apply(t, s, host)
	clients := []netns.Host{w.Client, w.Node, w.Outside, a}
	all := func(s *svc, p traffic.Protocol, f netns.Family) []netip.AddrPort {
		var to []netip.AddrPort
		for _, fe := range []frontend{clusterIP, nodePort, loadBalancer, externalIP, clusterIP} {
			to = append(to, w.address(s, fe, p, f))
		}
		return to
	}
	each(t, func(t *testing.T, p traffic.Protocol, f netns.Family) {
		had := map[netip.AddrPort]bool{}
		for _, from := range clients {
			had[backendOf(t, from, p, all(s, p, f)...)] = true
			backendOf(t, from, p, all(host, p, f)...)
		}
		if len(had) != 3 { // four clients, each new one at the next turn
			t.Errorf("%d of 3 endpoints were used", len(had))
		}
	})

	stays := map[string]netip.AddrPort{} // of those whose endpoint does not go
	key := func(from netns.Host, p traffic.Protocol, f netns.Family) string { return fmt.Sprint(from.Name(), p, f) }
	forAll := func(test func(from netns.Host, p traffic.Protocol, f netns.Family)) {
		for _, p := range traffic.Protocols() {
			for _, f := range netns.Families() {
				for _, from := range clients {
					test(from, p, f)
				}
			}
		}
	}
	remember := func(gone netns.Host) {
		clear(stays)
		forAll(func(from netns.Host, p traffic.Protocol, f netns.Family) {
			if now := backendOf(t, from, p, s.at(f, servicePort)); now.Addr() != gone.Addr(f) {
				stays[key(from, p, f)] = now
			}
		})
	}
	check := func(t *testing.T, gone netns.Host) {
		t.Helper()
		forAll(func(from netns.Host, p traffic.Protocol, f netns.Family) {
			now := backendOf(t, from, p, all(s, p, f)...)
			if was, ok := stays[key(from, p, f)]; ok && now != was || now.Addr() == gone.Addr(f) {
				t.Errorf("%s %s from %s: %s answered, want %s", p, f, from.Name(), now, was)
			}
		})
	}
	t.Run("a restart", func(t *testing.T) {
		remember(netns.Host{})
		w.stop(t)
		w.start(t)
		w.wantLog(t, "changes=0")
		check(t, netns.Host{})
	})
	t.Run("an endpoint that leaves frees its clients, the others keep theirs", func(t *testing.T) {
		remember(b)
		w.apply(t, s.to(ready(a, c)))
		check(t, b)
	})
	t.Run("an endpoint that leaves while nothing runs", func(t *testing.T) {
		remember(c)
		w.stop(t)
		w.put(t, s.to(ready(a, b)).objects()...)
		w.start(t)
		check(t, c)
	})
}

// Under the policy Local a client from outside never gets an endpoint elsewhere,
// wherever it was before.
func TestAffinityUnderLocal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	here, there := w.Local[0], w.RemotePods[0]
	s := w.full("sticky", sticky(10800), externalLocal).to(ready(here, there))
	w.apply(t, s)
	each(t, func(t *testing.T, p traffic.Protocol, f netns.Family) {
		// One of the two that are outside the node's pods starts at the endpoint there.
		for _, from := range []netns.Host{w.Outside, w.Client, w.Node} {
			inside := backendOf(t, from, p, s.at(f, servicePort))
			lb := backendOf(t, from, p, w.address(s, loadBalancer, p, f), w.address(s, nodePort, p, f))
			if from.NS == w.Outside.NS && lb.Addr() != here.Addr(f) {
				t.Errorf("from outside to the load balancer: %s, want %s", lb, here.Addr(f))
			}
			if from.NS != w.Outside.NS && lb != inside {
				t.Errorf("from %s to the load balancer: %s, want %s as at the ClusterIP", from.Name(), lb, inside)
			}
			if again := backendOf(t, from, p, s.at(f, servicePort)); again != inside {
				t.Errorf("from %s to the ClusterIP again: %s, want %s", from.Name(), again, inside)
			}
		}
	})
}

// A client is forgotten when it has made no new connection for the timeout. The
// kernel's clock is not ours: this looks at the time that the kernel gives it.
func TestAffinityIsRefreshedAndBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--affinity-size", "2"}})
	small := w.service("small", sticky(10800)).to(ready(w.Local[0], w.RemotePods[0], w.RemotePods[1]))
	brief := w.service("brief", sticky(int32(patience.Seconds()/10))).to(ready(w.Local[0]))
	w.apply(t, small, brief)
	connect := func(from netns.Host, s *svc) {
		t.Helper()
		r := (traffic.Client{NS: from.NS, Timeout: patience}).Connect(t.Context(), traffic.TCP, s.at(netns.IPv4, servicePort))
		if r.Outcome != traffic.Answered {
			t.Errorf("from %s: %s, want an answer however full the map is", from.Name(), r)
		}
	}
	for _, from := range []netns.Host{w.Client, w.Local[0], w.Local[1], w.Node} {
		connect(from, small)
	}
	k := w.kernel(t)
	clients := func(s *svc) int {
		n := 0
		have, err := k.ReadListing(rules.DefaultTable)
		if err != nil {
			t.Fatal(err)
		}
		for id, set := range have.Tables[rules.IPv4].Sets {
			if id.Kind == rules.Affinity && id.Of == "/test/"+s.Name+"/tcp" {
				n += len(set)
			}
		}
		return n
	}
	for _, want := range []string{`nftproxy_affinity_clients{family="ip",map="affinity/test/small/tcp"} 2`, `nftproxy_affinity_size{family="ip",map="affinity/test/small/tcp"} 2`} {
		if text := w.metrics(t); !strings.Contains(text, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	if n := clients(small); n != 2 {
		t.Errorf("%d clients are remembered, want 2, which is the map's size", n)
	}
	eventually(t, "the kernel remembering a client", func() error { // it may have forgotten it before we look
		if connect(w.Client, brief); clients(brief) != 1 {
			return errors.New("it does not")
		}
		return nil
	})
	eventually(t, "the kernel forgetting its clients", func() error {
		if n := clients(brief); n > 0 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	})
}

// TestAffinityIsRefreshed: new connections keep a client with its endpoint for longer
// than the timeout.
func TestAffinityIsRefreshed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	s := w.service("web", sticky(2)).to(ready(w.Local[0], w.RemotePods[0], w.RemotePods[1]))
	w.apply(t, s)
	for _, f := range netns.Families() {
		t.Run(f.String(), func(t *testing.T) {
			to := s.at(f, servicePort)
			client := traffic.Client{NS: w.Client.NS}
			began := time.Now()
			last := began // when the last connection that the client is remembered by began
			first := client.Connect(t.Context(), traffic.TCP, to)
			for time.Since(began) < 5*time.Second {
				next := time.Now()
				r := client.Connect(t.Context(), traffic.TCP, to)
				if pause := time.Since(last); pause > time.Second {
					t.Skipf("a pause of %s: the machine is too busy to tell", pause)
				}
				last = next
				if r.Outcome != traffic.Answered || r.Backend != first.Backend {
					t.Fatalf("after %s: %s, want %s as before", time.Since(began), r, first.Backend)
				}
				time.Sleep(20 * time.Millisecond) // a pace, to wait for nothing
			}
		})
	}
}
