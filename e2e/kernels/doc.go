// SPDX-License-Identifier: Apache-2.0

// Command kernels boots Debian's kernels in emulated machines, runs the packet tests and the demo in each, with the
// kernel's SCTP and without, and prints a table: kernel by capability and by test.
//
//	go run ./e2e/kernels -series 5.10,6.1,6.12,newest
//
// It needs no root and no KVM, but a Debian machine with qemu-system-x86, busybox-static, kmod, nftables, iproute2 and bash.
// Kernels are fetched by apt-get from this machine's own mirror, with lists of their own; nothing is installed. An emulated
// machine is 10 to 30 times slower than a real one, and one kernel takes from 20 minutes to an hour.
//
// packages.go fetches a kernel, image.go and cpio.go make an initramfs of it, this machine's tools and our test binaries;
// guest.go boots that, and results.go reads what it prints. init.sh is the first process of the guest.
package main
