// SPDX-License-Identifier: Apache-2.0

// Package inspect looks at the running kernel's nftables and changes nothing: which of a name's tables are there and
// who may change them, how full they are, what they have counted and what packets have put into them, whose other chains
// there are, what kube-proxy left, and what becomes of packets.
//
// An Inspector has a socket of its own, so that a reading of large maps does not hold up commits. What it returns is of
// no single moment: a listing that changes have interrupted is made again, but others may change what was read before.
package inspect
