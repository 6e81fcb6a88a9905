// SPDX-License-Identifier: Apache-2.0

package lock

// Config says for whom a lock is, and who is told of what becomes of it.
type Config struct {
	// Table is the name of the tables that it is about.
	Table   string
	Version string
	// Socket is the path at which this process answers commands; empty: it does not.
	Socket string
	// Ready says whether this process does its work, or could do so at once if it had the lock. Nil: it never says so.
	Ready func() bool
	// Waits is told, once, of each process that has the lock when this one wants it. err is why no more is known of it
	// than its table says. Nil: nobody wants to know.
	Waits func(holder Process, err error)
	// Trouble is told of errors, which are tried again. Nil: nobody wants to know.
	Trouble func(error)
}

// Status is who has a lock, and who waits for it.
type Status struct {
	// Holder is nil if nobody has it.
	Holder *Process
	// Waiting are those who wait, as far as the holder tells.
	Waiting []Process
	// Doubt is why no more is known than the lock's table says.
	Doubt error
}
