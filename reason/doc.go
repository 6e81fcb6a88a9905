// SPDX-License-Identifier: Apache-2.0

// Package reason lists the reasons that nftproxy gives: why a connection is refused, dropped, masqueraded or sent to one endpoint, why
// an endpoint gets none, why a Service does without an address, and why a part of an object is not used.
//
// Each reason has a code, which never changes, and its texts. Command explain, command trace, the log, Events and metrics take both
// from here, so that they name the same thing alike. Texts are not printable by themselves if what is put into them is not.
//
// A new reason is a constant, a row of the table, and a row of the test.
package reason
