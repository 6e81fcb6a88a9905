// SPDX-License-Identifier: Apache-2.0

// Package tracer is a packet tracer: it carries out the typed statements of a state's
// rules, as the kernel does, and says what becomes of a packet. Command explain asks it,
// and so do the tests of what the rules are to do.
package tracer
