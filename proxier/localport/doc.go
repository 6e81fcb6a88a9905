// SPDX-License-Identifier: Apache-2.0

// Package localport serves NodePorts on loopback addresses, for TCP and UDP, by
// forwarding in userspace: the kernel translates no packets that come to a loopback
// address from elsewhere (and setting route_localnet so that it does opens local
// services to the network). SCTP is not served: few kernels have sockets for it.
//
// Endpoints take turns. With session affinity all clients count as one, since all
// have the same address. A port without endpoints is not listened on, so that
// connections are refused. TCP connections that are open stay with their endpoint
// when it goes, as in the kernel; a UDP client is moved to another one at once.
//
// All ports together hold a bounded number of connections and flows, and of buffers. When
// there are too many, the one that has been quiet for longest ends. Nor does it listen at more ports than a quarter of the
// descriptors that the process may have.
//
// Sockets belong to the network namespace of the thread that calls: nftproxy lives
// in one.
package localport
