// SPDX-License-Identifier: Apache-2.0

// Package nfnetlinktest is a double of the kernel's end of a socket of netfilter, for tests of what the kernel seldom does:
// dumps that are interrupted, answers that get lost, errors of a kind.
//
// The double keeps to what callers rely on, and TestContract holds the double and the kernel to it:
//
//   - Answers are there when a send returns, in the order of the requests, each with its request's number.
//   - A dump comes in several datagrams and ends with NLMSG_DONE. Until it was read to its end, another one is refused (EBUSY).
//   - A request that asks for it is acknowledged after its answer; one that fails has an error, with the kernel's words.
//   - What is not read stays, before the answers to later requests.
//   - Nothing there is EAGAIN, at once if the caller does not wait.
//   - A datagram that is larger than the buffer is cut off, and its whole length is told.
//   - What does not fit the receive buffer is lost, and ENOBUFS tells of it once, before what did fit.
//   - Events come to members of their group only.
package nfnetlinktest
