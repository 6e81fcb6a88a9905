// SPDX-License-Identifier: Apache-2.0

// Package lock sees to it that one process at a time writes the tables of a name in a network namespace, says which one
// that is, and who waits for it.
//
// The lock is a table of nftables without chains, of the family ip:
//
//	table ip nftproxy_lock {
//		comment "version=v1.2.0 pid=1 container=0123456789ab since=2026-01-02T03:04:05Z socket=..."
//		flags owner
//	}
//
// The kernel makes it once only, deletes it when the socket that made it is closed, however the process ends, and lets
// nobody else change it (NFT_TABLE_F_OWNER, Linux 5.12). It belongs to the network namespace, so that it holds between
// containers that share one. And whoever can make it could change the tables themselves: CAP_NET_ADMIN is needed in the
// user namespace that the network namespace belongs to. A lock that anybody can take, such as the name of an abstract
// Unix socket or the number of a port, would be one that anybody can keep.
//
// Before 5.12 the table has no owner, and outlives its maker. Its comment names the netlink socket of who made it, by
// port and inode; a table whose socket is gone is replaced by the next one, in one transaction that fails if anything was
// changed since it was looked at. There `nft flush ruleset` takes it away, too: its holder looks for it several times a
// second and makes it again.
//
// Beside that each process listens on an abstract Unix socket of a random name, which the comment has. Those who wait
// are connected to it, and so learn at once when it ends; those who look ask there. What it says is believed if the
// socket belongs to root or to the same user, which the kernel tells. The lock does not depend on it: without it, those who
// wait look at the table every 50 milliseconds.
package lock
