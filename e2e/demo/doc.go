// SPDX-License-Identifier: Apache-2.0

// Command demo shows nftproxy at work: it makes a small cluster out of network
// namespaces, runs nftproxy on its node with the Services and EndpointSlices of a
// directory of manifests, sends TCP, UDP and SCTP traffic over IPv4 and IPv6 to
// the service addresses, and shows who answered. Then it changes the manifests and
// kills nftproxy under load.
//
// What must come of a connection it works out from the manifests by itself; its
// exit code is 1 if anything came out otherwise.
//
// It needs root or, without, the permission to make user namespaces. It leaves
// nothing behind, whatever ends it, except SIGKILL: then its copy of the manifests
// stays and, with --keep as root, the namespaces' names.
package main
