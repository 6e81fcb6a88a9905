// SPDX-License-Identifier: Apache-2.0

// Package netns makes network namespaces, and a small cluster out of them,
// for packet tests and the demo.
//
// Namespaces are anonymous: a file descriptor of this process keeps each one
// alive, so that the kernel removes them, with all that is in them, when the
// process ends in whatever way. Nothing is ever changed in the namespace that
// the process was started in.
//
//	client 10.244.1.10 ─┐
//	local1 10.244.1.2  ─┼─ node 172.18.0.2 ──┐
//	local2 10.244.1.3  ─┘  (forwards)        ├─ bridge in outside, 172.18.0.1
//	                       remote 172.18.0.3 ┘
//	                       (another node and its pods, 10.244.2.2 to .20)
//
// Each address has an IPv6 sibling: fd00:10:244:1::a, fd00:172:18::2, and so
// on. Pods hang on the node by veth pairs and reach everything, each other and
// themselves included, through the node's routing and its netfilter hooks. The
// service ranges (10.96.0.0/16, fd00:10:96::/112) lead from outside to the node
// and, for the node itself, out of its default route, so that packets come to
// its output hook. outside has no route to pods, as in a real network.
//
// It needs CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW, which everyone has
// inside a user namespace of their own: Main runs a program in one if needed.
package netns
