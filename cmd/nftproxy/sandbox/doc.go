// SPDX-License-Identifier: Apache-2.0

// Package sandbox takes from this process the rights that it does not need once it has
// started, and shows those that a process has.
//
// Three layers, each as far as the kernel and the rights at the start go:
//
//   - capabilities: CAP_NET_ADMIN for nftables, connection tracking and /proc/sys/net;
//     CAP_NET_BIND_SERVICE for NodePorts and health checks below 1024; CAP_DAC_READ_SEARCH only
//     where a file that is read is another user's and closed to root without it. The others leave all
//     sets, the bounding set, too.
//   - no_new_privs: no program that it runs gains rights.
//   - Landlock (Linux 5.13): it reads below /etc, /usr, /proc and /sys, where its own files are
//     and where a pod's service account is; it writes what kube-proxy sets on a node; it runs nothing.
//     Access to the network is not restricted.
//
// A process that runs a credential plugin of its kubeconfig keeps the layers that the
// plugin would inherit off: the bounding set, no_new_privs and Landlock. What a plugin needs, nobody here
// knows.
//
// All calls are made on every thread (syscall.AllThreadsSyscall), which only a program
// without cgo can do.
package sandbox
