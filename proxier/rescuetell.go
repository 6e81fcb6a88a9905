// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"maps"
	"time"

	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/proxier/failover"
	"github.com/nftproxy/nftproxy/reason"
)

// toldPause is how long nothing more is told of an endpoint that was told of.
const toldPause = 10 * time.Minute

// mostTold is how many endpoints are told of in that time.
const mostTold = 1000

// silentTeller tells of endpoints that do not answer.
type silentTeller struct {
	*teller
	node   string
	counts *FailoverMetrics
	told   map[failover.Endpoint]time.Time
}

// tell tells what becomes of an endpoint.
func (r *silentTeller) tell(c failover.Change, now time.Time) {
	endpoint := c.At.Addr.String()
	if c.Kind != failover.Ejected {
		texts := map[failover.Kind]string{failover.Tried: "The next new connection tries an endpoint that did not answer",
			failover.Failed: "An endpoint still does not answer", failover.Back: "An endpoint gets new connections again",
			failover.Freed: "An endpoint gets new connections though it does not answer: nor do most others"}
		r.log.V(1).Info(texts[c.Kind], "servicePort", c.Owner.String(), "endpoint", endpoint, "waits", c.For)
		return
	}
	r.counts.eject(c.ServicePortName)
	maps.DeleteFunc(r.told, func(_ failover.Endpoint, at time.Time) bool { return now.Sub(at) >= toldPause })
	if _, told := r.told[c.Endpoint]; told || len(r.told) >= mostTold {
		r.log.V(1).Info("An endpoint does not answer again", "servicePort", c.Owner.String(), "endpoint", endpoint, "noNewConnectionsFor", c.For)
		return
	}
	r.told[c.Endpoint] = now
	r.log.Info("An endpoint does not answer from this node: it gets no new connections", "servicePort", c.Owner.String(), "endpoint", endpoint, "for", c.For)
	r.service(cluster.ServiceOf(c.Owner), reason.Silent.Event(), reason.Silent.Text(endpoint, r.node, c.For))
}
