// SPDX-License-Identifier: Apache-2.0

package tracer_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/tracer"
)

// web is a sticky service of two endpoints, in a state.
func web() rules.State {
	sp := rules.ServicePort{Name: rules.ServicePortName{Namespace: "default", Name: "web"}, Protocol: rules.TCP,
		ClusterIP: netip.MustParseAddr("10.96.0.10"), Port: 80, Policies: rules.Policies{Affinity: 60}}
	var endpoints []rules.Endpoint
	for _, a := range []string{"10.244.1.2:8080", "10.244.2.2:8080"} {
		endpoints = append(endpoints, rules.Endpoint{Addr: netip.MustParseAddrPort(a), Ready: true})
	}
	c := rules.Config{PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}.WithDefaults()
	d := rules.NewDesired(c, rules.Node{})
	d.Update([]rules.Owned{{Owner: rules.Owner{ServicePortName: sp.Name}, Objects: rules.Build(sp, endpoints, c, rules.Node{})}})
	return d.State()
}

var packet = tracer.Packet{Protocol: rules.TCP, Src: netip.MustParseAddrPort("172.18.0.1:1000"), Dst: netip.MustParseAddrPort("10.96.0.10:80")}

func trace(t *testing.T, tr *tracer.Tracer) tracer.Result {
	t.Helper()
	end, err := tr.Trace(packet, false)
	if err != nil {
		t.Fatal(err)
	}
	return end
}

// TestSteps: the rules that do something are told, in order.
func TestSteps(t *testing.T) {
	var got []string
	for _, s := range trace(t, &tracer.Tracer{State: web()}).Steps {
		got = append(got, s.Chain+": "+s.Rule.Text(rules.IPv4))
	}
	const numgen = "numgen inc mod 1 offset "
	for i := range got { // the offsets are hashes
		if head, _, ok := strings.Cut(got[i], numgen); ok {
			got[i] = head + numgen + "..."
		}
	}
	want := []string{
		"prerouting: jump services",
		"services: ip daddr @cluster-ips ip saddr != 10.244.0.0/16 meta mark set meta mark | 0x00004000",
		"services: ip daddr . meta l4proto . th dport vmap @service-ips",
		"service/default/web: meta l4proto tcp dnat ip to " + numgen + "...",
		"postrouting: ct status dnat ct original ip daddr . meta l4proto . ct original proto-dst vmap @sticky",
		"remember/default/web: update @affinity/default/web { ip saddr timeout 1m : ip daddr . th dport }",
		"postrouting: meta mark set meta mark ^ 0x00004000 masquerade fully-random",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestChoose sees each endpoint, and remembers nobody.
func TestChoose(t *testing.T) {
	state := web()
	for choice, want := range []string{"10.244.1.2:8080", "10.244.2.2:8080"} {
		tr := tracer.Tracer{State: state, Forget: true, Choose: func(uint32) uint32 { return uint32(choice) }}
		for range 2 {
			if got := trace(t, &tr).To.String(); got != want {
				t.Errorf("choice %d leads to %s, want %s", choice, got, want)
			}
		}
	}
	if set := state.Tables[rules.IPv4].Sets[rules.SetID{Kind: rules.Affinity, Of: "/default/web"}]; len(set) != 0 {
		t.Errorf("clients are remembered: %v", set)
	}
	tr := tracer.Tracer{State: state}
	if first, second := trace(t, &tr).To, trace(t, &tr).To; first != second {
		t.Errorf("a client that is remembered goes to %s, then to %s", first, second)
	}
}

// TestDormant: a table that is switched off does nothing.
func TestDormant(t *testing.T) {
	state := web()
	state.Tables[rules.IPv4].Dormant = true
	if end := trace(t, &tracer.Tracer{State: state}); end.To != packet.Dst || len(end.Steps) > 0 {
		t.Errorf("%+v", end)
	}
}
