// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lock

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Look returns who has the lock of the tables of a name in the calling thread's network namespace, and who waits for it.
func Look(table string) (s Status, err error) {
	l, err := openLocker(tableName(table))
	if err != nil {
		return s, fmt.Errorf("look at the lock of table %s: %w", table, err)
	}
	defer func() { _ = l.sock.Close() }()
	c, err := l.read()
	if err != nil || c == nil {
		return s, err
	}
	alive, err := c.alive()
	if !alive || err != nil {
		return s, err
	}
	s.Holder = &c.Process
	p, err := dial(c.socket)
	if err != nil {
		s.Doubt = err
		return s, nil
	}
	defer p.end()
	a, err := p.ask()
	if err != nil {
		s.Doubt = err
		return s, nil
	}
	s.Holder, s.Waiting = &a.Self, a.Waiting
	return s, nil
}

// unixSocketsFile lists the Unix sockets of the calling thread's network namespace.
const unixSocketsFile = "/proc/thread-self/net/unix"

// Ask asks a process that has a lock or waits for one what it says of itself. It finds its socket among its open files, for
// which it takes the rights to see these: of the same user, and no fewer capabilities.
func Ask(pid string) (Process, error) {
	found, err := socketsOf(pid)
	for _, random := range found {
		var p *peer
		if p, err = dial(random); err != nil {
			continue // somebody else may have put a line into the list of sockets, with a name of several lines
		}
		var a answer
		a, err = p.ask()
		p.end()
		if err == nil {
			return a.Self, nil
		}
	}
	return Process{}, fmt.Errorf("ask process %s: %w", pid, err)
}

// socketsOf returns the random parts of the names of what seem to be a process's sockets.
func socketsOf(pid string) (found []string, err error) {
	dir := filepath.Join("/proc", pid, "fd")
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for its socket: %w", err)
	}
	inodes := map[string]bool{}
	for _, file := range files {
		link, unseen := os.Readlink(filepath.Join(dir, file.Name()))
		if errors.Is(unseen, unix.EACCES) || errors.Is(unseen, unix.EPERM) {
			return nil, fmt.Errorf("look for its socket: %w", unseen)
		}
		if inode, ok := strings.CutPrefix(link, "socket:["); ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	list, err := os.Open(unixSocketsFile)
	if err != nil {
		return nil, fmt.Errorf("look for its socket: %w", err)
	}
	defer list.Close()
	lines := bufio.NewScanner(list)
	for lines.Scan() {
		fields := strings.Fields(lines.Text()) // Num RefCount Protocol Flags Type St Inode Path
		if len(fields) != 8 || fields[3] != listening || !inodes[fields[6]] {
			continue
		}
		if random, ok := strings.CutPrefix(fields[7], socketAddress("").Name); ok && socketName.MatchString(random) {
			found = append(found, random)
		}
	}
	if err = lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", unixSocketsFile, err)
	}
	if found == nil {
		err = errors.New("it has no socket yet, or it is of a version that has none")
	}
	return found, err
}

// listening is the flag of a Unix socket at which somebody listens (__SO_ACCEPTCON).
const listening = "00010000"
