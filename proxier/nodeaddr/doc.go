// SPDX-License-Identifier: Apache-2.0

// Package nodeaddr follows the node's own IP addresses, over route netlink: it
// lists them once and then again each time that the kernel tells of a change, of them
// or of the default routes, which say which address the node is known by. A
// Watcher belongs to the network namespace of the thread that made it.
//
// The addresses of the link IPVSLink are not the node's own but those of Services.
package nodeaddr

// IPVSLink is the link on which kube-proxy's IPVS mode keeps the addresses of all Services, and leaves them when it
// stops. kube-proxy does not count them as the node's either.
const IPVSLink = "kube-ipvs0"
