// SPDX-License-Identifier: Apache-2.0

// Package trust says which other processes and which files this one may go by.
//
// A process counts as this node's proxy only if it is seen in this network namespace
// and may change its rules. Its command line counts only if it is root's or this
// user's, runs this very executable (device and inode), and has the same root directory. In
// another mount namespace, as systemd makes one for a service, the files that it names must be
// the same there and here. Anybody may name a process nftproxy and start it with whatever
// arguments.
//
// A file that such a command line names counts only if nobody but root and this user can
// change it, or what leads to it: the rule of sshd's StrictModes.
package trust
