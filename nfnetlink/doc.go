// SPDX-License-Identifier: Apache-2.0

// Package nfnetlink is the socket over which this program talks with the kernel's netfilter (NETLINK_NETFILTER), and
// the messages on it. rules/kernel, rules/inspect and lock speak nf_tables over it, conntrack
// ctnetlink. It knows nobody's objects.
//
//   - Builder writes messages, Data reads attributes.
//   - Socket.Exchange sends requests and reads until each is answered, a dump to its end.
//   - Socket.Transact sends a batch of nf_tables and reads the answers to all of its messages.
//   - Socket.Receive takes events of the groups that the socket joined.
//   - Again makes a reading again that changes have interrupted.
//
// The kernel works a request off, and queues the answer, before the send returns. So an answer that does not come is
// lost, and a wait for one has a limit. What a caller left unread is thrown away before the next request: the kernel
// starts no dump on a socket before the last one was read to its end.
//
// A socket is opened once and keeps its port, by which the kernel knows the process, until it is closed. No error
// of a send or a receive makes another one necessary.
//
// github.com/mdlayher/netlink, which package expr of google/nftables brings along, is not used. Its Receive ends at the
// first error and does not tell which message it belongs to; a batch has an error for each refused message. It does not
// read what is there without waiting for more, as the answer to a batch and events need. It does not tell of
// interrupted dumps, and it copies a batch of up to 32 MiB that was built in place. Over its raw connection all of this
// package would remain but for the calls that open and set up a socket.
//
// Package nfnetlinktest is a double of the kernel for tests.
//
// `strace -e trace=sendto,recvfrom` shows the messages.
package nfnetlink
