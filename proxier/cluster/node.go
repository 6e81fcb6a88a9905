// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/rules"
)

// taintToBeDeleted is what the cluster autoscaler puts on a node that it is about
// to delete (KEP-3458).
const taintToBeDeleted = "ToBeDeletedByClusterAutoscaler"

// nodeInfo is what proxying needs of the Node object. Arrays are by family.
type nodeInfo struct {
	IPs      [2]netip.Addr
	Zone     string
	PodCIDRs []netip.Prefix
	// Eligible says that load balancers may send connections here: the node is not
	// about to go.
	Eligible bool
}

// convertNode returns what proxying needs of a Node. Of its addresses the first
// internal one of each family counts, else the first external one.
func convertNode(n *corev1.Node) nodeInfo {
	out := nodeInfo{Zone: n.Labels[corev1.LabelTopologyZone], Eligible: n.DeletionTimestamp == nil}
	for _, typ := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for _, addr := range n.Status.Addresses {
			a, ok := parseAddr(addr.Address)
			if f := rules.FamilyOf(a); ok && addr.Type == typ && !out.IPs[f].IsValid() {
				out.IPs[f] = a
			}
		}
	}
	cidrs := n.Spec.PodCIDRs
	if len(cidrs) == 0 && n.Spec.PodCIDR != "" {
		cidrs = []string{n.Spec.PodCIDR}
	}
	for _, s := range cidrs {
		if p, ok := parsePrefix(s); ok {
			out.PodCIDRs = append(out.PodCIDRs, p)
		}
	}
	for _, t := range n.Spec.Taints {
		if t.Key == taintToBeDeleted {
			out.Eligible = false
		}
	}
	return out
}
