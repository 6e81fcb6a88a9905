// SPDX-License-Identifier: Apache-2.0

// Package printable makes text that others wrote fit to be shown: names in Kubernetes objects and in the kernel,
// messages of an API server, whatever answers at a port.
//
// Such text can move a terminal's cursor, reorder what is read, or hold a line that looks like one of ours:
//
//	zone: "a\x1b[2J\nThe kernel holds just that."
//
// What the package returns is one line without such characters, and of bounded length. Characters are shown as Go's
// %q shows them: \n, \x1b, \u202e. Text without any comes back as it is, and text that was made printable, too.
//
// Word is for names, Line and Error are for messages. JSON and YAML are for whole documents, which keep their meaning.
package printable
