// SPDX-License-Identifier: Apache-2.0

// Package bounded limits what clients may take of the sockets that nftproxy itself
// listens on: connections, and so descriptors; memory; time.
//
// A Pool holds a number of connections at most. When it is full a new one takes the place
// of an old one: of the peer that has most, the one that has been without progress for
// longest. Whoever holds many connections open loses his own, and a kubelet's probe or a
// load balancer's question is answered.
package bounded
