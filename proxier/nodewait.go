// SPDX-License-Identifier: Apache-2.0

package proxier

import "time"

// podCIDRsWait is how many times longer than for the Node it is waited for the Node's podCIDRs,
// which a controller of the cluster gives it: 5 minutes, where kube-proxy's 30 seconds are the former.
const podCIDRsWait = 10

// awaitNode says whether the Node object tells what is needed of it, or has had its time to:
// the rules that are there from before are better until then. p.mu is held.
func (p *Proxier) awaitNode() bool {
	if p.adopted || p.config.NodeWait <= 0 {
		return true
	}
	wait := p.config.NodeWait
	var missing string
	switch {
	case !p.nodeSeen:
		missing = "the Node object; if this is not its name, set --hostname-override"
	case !p.node.IPs[0].IsValid() && !p.node.IPs[1].IsValid():
		missing = "an address in the Node object's status"
	case p.config.DetectNodeCIDR && len(p.node.PodCIDRs) == 0:
		wait, missing = podCIDRsWait*wait, "podCIDRs in the Node object's spec"
	default:
		p.nodeWait = 0
		return true
	}
	p.nodeWait = wait - time.Since(p.began)
	if p.nodeWait <= 0 {
		p.log.Info("Going on without what the Node object should tell; it is taken when it comes", "node", p.config.NodeName, "missing", missing)
		return true
	}
	if p.nodeMissing != missing {
		p.nodeMissing = missing
		p.log.Info("Waiting for the Node object before anything is programmed", "node", p.config.NodeName, "missing", missing, "atMost", p.nodeWait)
	}
	return false
}
