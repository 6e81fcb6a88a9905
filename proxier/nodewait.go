// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"time"

	"github.com/go-logr/logr"

	"github.com/nftproxy/nftproxy/proxier/cluster"
)

// podCIDRsWait is how many times longer the wait for the Node's podCIDRs is than that for the Node object: a controller of the
// cluster gives it them. Kube-proxy's 30 seconds for the Node make 5 minutes.
const podCIDRsWait = 10

// nodeWait waits, before anything is programmed, until the Node object tells what is needed of it, or has had its time to:
// the rules that are there from before are better until then.
type nodeWait struct {
	node  string
	most  time.Duration // 0: it does not wait
	log   logr.Logger
	began time.Time
	told  cluster.Missing // what it waits for, as was logged
	left  time.Duration   // that it still waits; 0: it does not
}

// over says whether nothing is waited for, or no longer.
func (w *nodeWait) over(what cluster.Missing) bool {
	if what == cluster.Nothing || w.most <= 0 {
		w.left = 0
		return true
	}
	most := w.most
	if what == cluster.NodePodCIDRs {
		most *= podCIDRsWait
	}
	missing := map[cluster.Missing]string{
		cluster.NodeObject:   "the Node object; if this is not its name, set --hostname-override",
		cluster.NodeAddress:  "an address in the Node object's status",
		cluster.NodePodCIDRs: "podCIDRs in the Node object's spec",
	}[what]
	w.left = most - time.Since(w.began)
	if w.left <= 0 {
		w.log.Info("Going on without what the Node object should tell; it is taken when it comes", "node", w.node, "missing", missing)
		return true
	}
	if w.told != what {
		w.told = what
		w.log.Info("Waiting for the Node object before anything is programmed", "node", w.node, "missing", missing, "atMost", w.left)
	}
	return false
}
