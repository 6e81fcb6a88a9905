// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
)

// TestCounts: new connections to Services are counted by frontend and endpoint, those to anything else are not.
func TestCounts(t *testing.T) {
	world := &explain.World{}
	for i, name := range []string{"web", "api", "dns"} {
		world.Ports = append(world.Ports, proxier.Port{ServicePort: rules.ServicePort{Name: rules.ServicePortName{Namespace: "default", Name: name},
			Protocol: rules.TCP, ClusterIP: netip.AddrFrom4([4]byte{10, 96, 0, byte(10 + i)}), Port: 80}})
	}
	c := counts{world: world, services: map[rules.Frontend]*serviceCount{}, names: map[rules.Frontend]string{}}
	flow := func(to, endpoint string) {
		f := conntrack.Flow{Protocol: rules.TCP}
		f.Orig.Dst, f.Reply.Src = netip.MustParseAddrPort(to), netip.MustParseAddrPort(endpoint)
		c.add(f)
	}
	for i := range 8 {
		flow("10.96.0.10:80", fmt.Sprintf("10.244.1.%d:8080", max(1, i)))
	}
	for range 2 {
		flow("10.96.0.11:80", "10.244.2.1:8080")
	}
	flow("10.96.0.12:80", "10.244.2.2:8080")
	flow("192.0.2.1:80", "192.0.2.1:80")    // went where it was sent
	flow("192.0.2.2:80", "10.244.2.2:8080") // translated by somebody else
	c.lose()
	want := `SERVICE      ADDRESS            NEW/S  ENDPOINTS
default/web  10.96.0.10:80/tcp  4.0    10.244.1.1:8080 25%, 10.244.1.2:8080 13%, 10.244.1.3:8080 13%, 10.244.1.4:8080 13%, 10.244.1.5:8080 13%, and 2 more
default/api  10.96.0.11:80/tcp  1.0    10.244.2.1:8080 100%
and 1 more
There were more than could be counted.
`
	if diff := cmp.Diff(want, c.table(2, 2*time.Second)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("SERVICE  ADDRESS  NEW/S  ENDPOINTS\n", c.table(2, time.Second)); diff != "" {
		t.Errorf("it does not begin anew (-want +got):\n%s", diff)
	}
}
