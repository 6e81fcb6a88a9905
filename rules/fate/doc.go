// SPDX-License-Identifier: Apache-2.0

// Package fate says what becomes of a packet in a state: it carries out the typed
// statements of its rules, as the kernel does. Command explain asks it, and so do the
// tests of what the rules are to do.
package fate
