// SPDX-License-Identifier: Apache-2.0

//go:build linux

package foreign

import (
	"compress/gzip"
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
)

// recorded returns what the kernel listed of kube-proxy 1.37; package compare's tests compare it with the Services that it is for.
func recorded(t *testing.T, mode string) (dumps []Dump) {
	t.Helper()
	file, err := os.Open("testdata/" + mode + ".json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(&dumps); err != nil {
		t.Fatal(err)
	}
	return dumps
}

func packetTo(to string, p rules.Protocol) Packet {
	dst := netip.MustParseAddrPort(to)
	src := netip.MustParseAddrPort("203.0.113.1:40000")
	if dst.Addr().Is6() {
		src = netip.MustParseAddrPort("[2001:db8::1]:40000")
	}
	return Packet{Protocol: p, Src: src, Dst: dst, Interface: "eth0", Local: func(a netip.Addr) bool {
		return a.IsLoopback() || a == netip.MustParseAddr("172.18.0.2") || a == netip.MustParseAddr("fd00:18::2")
	}}
}

// TestFrontends: the frontends of both modes are the same, but for LoadBalancer addresses without endpoints, and have the names of their Services.
func TestFrontends(t *testing.T) {
	names := map[rules.Frontend]string{}
	for _, mode := range []string{"nftables", "iptables"} {
		r, err := New(recorded(t, mode))
		if err != nil {
			t.Fatal(err)
		}
		list := r.Frontends()
		for _, f := range list {
			if f.Service == "" || names[f.Frontend] != "" && names[f.Frontend] != f.Service {
				t.Errorf("mode %s: %s is of %q, and in the other mode of %q", mode, f.Frontend, f.Service, names[f.Frontend])
			}
			names[f.Frontend] = f.Service
		}
		if len(list) != 55 || len(names) != 55 {
			t.Errorf("mode %s has %d frontends, both have %d, want 55", mode, len(list), len(names))
		}
	}
	at := rules.Frontend{Addr: netip.MustParseAddr("10.96.0.10"), Protocol: rules.SCTP, Port: 5000}
	if names[at] != "demo/web:sig" {
		t.Errorf("%s is of %q", at, names[at])
	}
}

// TestBroken: rules with bits that are wrong, whatever they say, are followed to an end or refused.
func TestBroken(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, mode := range []string{"nftables", "iptables"} {
		dumps := recorded(t, mode)
		flip := func(b []byte) {
			if len(b) > 0 {
				b[random.IntN(len(b))] ^= 1 << random.IntN(8)
			}
		}
		for range 60 {
			d := &dumps[random.IntN(len(dumps))]
			for range 4 {
				switch random.IntN(4) {
				case 0:
					if n := len(d.Sets); n > 0 {
						flip(d.Sets[random.IntN(n)])
					}
				case 1:
					for _, list := range d.Elements {
						for _, m := range list {
							flip(m)
						}
						break
					}
				default:
					if n := len(d.Rules); n > 0 {
						flip(d.Rules[random.IntN(n)])
					}
				}
			}
			r, err := New(dumps)
			if err != nil {
				dumps = recorded(t, mode)
				continue
			}
			r.Frontends()
			for _, to := range []string{"10.96.0.10:80", "10.96.0.15:80", "172.18.0.2:30080", "192.0.2.20:80", "[fd00:96::a]:80", "[fd00:18::2]:30085"} {
				_, _ = r.Connect(packetTo(to, rules.TCP))
			}
		}
	}
}
