// SPDX-License-Identifier: Apache-2.0

// Package netnstest helps tests that use package netns: a cluster that goes away
// with the test, and a second run of the tests as an ordinary user. It is apart
// from netns because the demo uses netns and must not import testing.
package netnstest
