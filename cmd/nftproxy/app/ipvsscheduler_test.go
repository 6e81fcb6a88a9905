// SPDX-License-Identifier: Apache-2.0

package app

import (
	"testing"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/config"
	"github.com/nftproxy/nftproxy/rules"
)

// TestIPVSSchedulers: each scheduler that IPVS has in Linux 7.0 has a nearest one, in mode ipvs only, and a flag counts more.
func TestIPVSSchedulers(t *testing.T) {
	want := map[string]rules.Scheduler{"": rules.RoundRobin, "none-such": rules.RoundRobin, "rr": rules.RoundRobin, "wrr": rules.RoundRobin,
		"lc": rules.LeastConnections, "wlc": rules.LeastConnections, "sed": rules.LeastConnections, "nq": rules.LeastConnections,
		"lblc": rules.LeastConnections, "lblcr": rules.LeastConnections, "twos": rules.LeastConnections,
		"sh": rules.ClientHash, "dh": rules.ClientHash, "mh": rules.Maglev, "fo": rules.RoundRobin, "ovf": rules.RoundRobin}
	for name, nearest := range want {
		for mode, expected := range map[string]rules.Scheduler{"ipvs": nearest, "iptables": rules.RoundRobin, "nftables": rules.RoundRobin} {
			c, _, _, err := config.Parse([]byte("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: " + mode + "\nipvs: {scheduler: '" + name + "'}\n"))
			if err != nil {
				t.Fatal(err)
			}
			o := flagOptions(t)
			o.kubeProxy.Config = *c
			if got := o.schedulerOf(); got != expected {
				t.Errorf("mode %s, scheduler %q: %s, want %s", mode, name, got, expected)
			}
			if o.scheduler = "random"; o.schedulerOf() != rules.Random {
				t.Errorf("--scheduler does not count above scheduler %q", name)
			}
		}
	}
	for name := range ipvsSchedulers {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is not tested", name)
		}
	}
}
