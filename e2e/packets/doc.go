// SPDX-License-Identifier: Apache-2.0

// Package packets tests what happens to packets on a node that nftproxy programs:
// the program itself, run from manifests in a cluster of network namespaces, and
// real TCP, UDP and SCTP traffic over IPv4 and IPv6 from a pod, from the node and
// from outside.
//
// A test makes a world (a cluster, servers in its pods, nftproxy on its node),
// applies services to it, and says what becomes of connections: who answers, in which
// order, whom the backends see, or that they are refused. A row names what a
// Service or an EndpointSlice asks for and what follows for connections:
//
//	w := newWorld(t, config{})
//	web := w.service("web").to(ready(w.Local[0], w.RemotePods[0]))
//	w.apply(t, web)
//	w.wantEverywhere(t, web, spread(w.Local[0], w.RemotePods[0]))
//
// The files harness_*_test.go hold the world, the builders and the checks.
//
// The test binary is also the program under test: with runEnv in its environment
// it acts as nftproxy.
package packets
