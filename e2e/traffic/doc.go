// SPDX-License-Identifier: Apache-2.0

// Package traffic sends real TCP, UDP and SCTP traffic between network
// namespaces and tells who answered.
//
// A Server answers each request with the address and port that the request came
// to (the backend's identity) and the peer that it saw; a Client makes one new
// connection and reports the answer, a refusal, or a timeout. Answers carry what
// the request asked for, so a late answer to an earlier request counts for nothing.
//
// Where the kernel speaks SCTP its sockets make real associations. Elsewhere clients
// send an INIT chunk and servers answer INIT ACK, in raw IP packets that the sender
// gives a complete checksum. Both ends check the CRC32c, the ports and the
// verification tag, so that an answer proves address translation in both directions. The
// chunk after that (COOKIE ECHO) is not sent: there is no association, only its first
// round trip. Nobody answers a raw SCTP packet to a port without a server; the kernel
// sends ABORT. Raw packets are of no use where the kernel speaks SCTP: it would answer
// the INIT, too, and leaves checksums to devices that need none, such as veth.
//
// TCP and UDP are the kernel's own.
package traffic
