// SPDX-License-Identifier: Apache-2.0

// Package ipvs finds and removes what kube-proxy left in its IPVS mode, of which nftables knows nothing:
//
//   - the link kube-ipvs0, which has the addresses of all Services, so that any port of these reaches the node itself
//   - virtual servers in IPVS, which get a packet before it is delivered to the node
//   - ipsets, which rules of iptables match
//
// kube-proxy --cleanup empties IPVS, whoever made what is in it. Others use IPVS, too, such as keepalived: only the
// virtual servers at addresses of kube-ipvs0, and at ports that are in kube-proxy's ipsets of NodePorts, are taken for
// kube-proxy's here.
//
// A kernel that has not loaded IPVS or ipsets is not asked for them: it would load them.
package ipvs
