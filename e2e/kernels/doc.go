// SPDX-License-Identifier: Apache-2.0

// Command kernels boots Debian's kernels in emulated machines, runs the tests that meet the kernel and the demo in each, with the
// kernel's SCTP and without, and prints a table: capability by kernel. With -write it renews that table in a page.
//
//	go build -o bin/boot-kernels ./e2e/kernels
//	bin/boot-kernels -series 5.10,6.1,6.12,newest -write docs/reliability.md
//	bin/boot-kernels -series 6.1 -sctp yes -suites 'conntrack,packets=TestSCTP' # some tests; nothing is kept
//
// It needs no root and no KVM, but a Debian machine with a few programs: it names the packages that are missing, and with -install
// installs them. Kernels are fetched by apt-get from this machine's own mirrors, with lists of their own, and are not installed.
//
// An emulated machine is slow, and slower beside other work: each guest measures how slow, before each suite, and its tests wait
// that many times longer. One kernel takes from 20 minutes to hours; -brief takes a part of that.
//
// packages.go fetches a kernel, programs.go finds this machine's tools, suites.go builds the tests, image.go and cpio.go make an
// initramfs of all that; guest.go boots it, results.go reads what it prints, and keeps it, capabilities.go says what proves what,
// and table.go writes. init.sh is the first process of the guest. The program slowness measures in it.
package main
