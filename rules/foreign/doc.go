// SPDX-License-Identifier: Apache-2.0

// Package foreign follows the first packet of a connection through rules of nf_tables that other programs made, as the kernel lists
// them. It is pure: package inspect reads what it is made from.
//
// It is made for kube-proxy's rules: those of its nftables mode, in the tables ip kube-proxy and ip6 kube-proxy, and those of its
// iptables mode where iptables is iptables-nft: the chains KUBE-... of the tables nat, filter and mangle, whose matches and targets
// are expressions of nf_tables, or of x_tables inside of such. From base chains of iptables only the rules are followed that lead to
// those chains: what else is there is the same before and after. What an expression does that is not known is an error, if a packet
// meets it.
//
// Where the kernel chooses (numgen, statistic), all choices are followed. A client is one that no rule remembers.
package foreign
