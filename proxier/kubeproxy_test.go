// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/nftproxy/nftproxy/internal/kubeproxytests"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// TestNoLocalEndpointsOfKubeProxy replays what kube-proxy's own tests expect of the metric of Services without an endpoint on
// the node.
func TestNoLocalEndpointsOfKubeProxy(t *testing.T) {
	differences := map[string]string{}
	for _, c := range kubeproxytests.Read[struct {
		Test, Node         string
		Internal, External int
		Objects            []json.RawMessage
	}](t, "metric") {
		synctest.Test(t, func(t *testing.T) {
			n := startWith(t, &rulestest.Kernel{}, func(p *proxier.Config) { p.Cluster.NodeName = c.Node })
			defer n.stop()
			var objects []any
			for _, data := range c.Objects {
				objects = append(objects, kubeproxytests.Object(t, c.Test, data, map[string]any{"Service": new(corev1.Service), "EndpointSlice": new(discoveryv1.EndpointSlice)}))
			}
			n.lists(objects...)
			want := fmt.Sprintf("%d %d 0 0", c.External, c.Internal)
			if differences[c.Test] = ""; n.metric("sync_proxy_rules_no_local_endpoints_total") != want {
				differences[c.Test] = fmt.Sprintf("%s, kube-proxy: %s", n.metric("sync_proxy_rules_no_local_endpoints_total"), want)
			}
		})
	}
	kubeproxytests.Purposes{}.Compare(t, differences)
}
