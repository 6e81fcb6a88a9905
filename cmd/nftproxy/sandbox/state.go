// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// State is how a process is confined, as the kernel shows it: what the least confined of its
// threads has.
type State struct {
	Permitted       Capabilities
	Bounding        Capabilities // what programs that it runs as root can gain, without NoNewPrivileges
	NoNewPrivileges bool
	Landlock        bool
}

// Of returns how a process below a /proc is confined; the process "self" is this one.
func Of(proc, process string) (State, error) {
	threads, err := filepath.Glob(filepath.Join(proc, process, "task/*/status"))
	if err == nil && len(threads) == 0 {
		err = os.ErrNotExist
	}
	s := State{NoNewPrivileges: true, Landlock: hasRuleset(filepath.Join(proc, process, "fd"))}
	for _, thread := range threads {
		text, readErr := os.ReadFile(thread)
		if readErr != nil {
			continue // it has ended
		}
		if err = s.add(string(text)); err != nil {
			break
		}
	}
	if err != nil {
		return State{}, fmt.Errorf("see the rights of process %s: %w", process, err)
	}
	return s, nil
}

// add adds a thread's status.
func (s *State) add(status string) error {
	found := 0
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		var err error
		var bits uint64
		switch name {
		case "CapPrm":
			bits, err = strconv.ParseUint(value, 16, 64)
			s.Permitted |= Capabilities(bits)
		case "CapBnd":
			bits, err = strconv.ParseUint(value, 16, 64)
			s.Bounding |= Capabilities(bits)
		case "NoNewPrivs":
			s.NoNewPrivileges = s.NoNewPrivileges && value == "1"
		default:
			continue
		}
		if err != nil {
			return err
		}
		found++
	}
	if found != 3 {
		return fmt.Errorf("the status has no CapPrm, CapBnd or NoNewPrivs")
	}
	return nil
}

// rulesetLink is what the kernel calls a ruleset of Landlock.
const rulesetLink = "anon_inode:[landlock-ruleset]"

// hasRuleset says whether a directory fd of /proc has the ruleset that Enter keeps open once it is
// in force: the kernel has no other way to show that.
func hasRuleset(directory string) bool {
	links, _ := filepath.Glob(filepath.Join(directory, "*"))
	return slices.ContainsFunc(links, func(link string) bool {
		to, err := os.Readlink(link)
		return err == nil && to == rulesetLink
	})
}

// Confined says whether a process has no more rights than Enter leaves it.
func (s State) Confined() bool { return s.LimitedCapabilities() && s.Landlock }

// LimitedCapabilities says the same of a kernel without Landlock.
func (s State) LimitedCapabilities() bool {
	return s.NoNewPrivileges && s.Permitted&^(needed|readAll) == 0
}

// String says it for people.
func (s State) String() string {
	out := "capabilities " + s.Permitted.String()
	if !s.NoNewPrivileges && s.Bounding != s.Permitted {
		out += " (programs that it runs: " + s.Bounding.String() + ")"
	}
	return out + "; no_new_privs " + onOff(s.NoNewPrivileges) + "; Landlock " + onOff(s.Landlock)
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// Capabilities is a set of capabilities, as the kernel numbers them.
type Capabilities uint64

// names are those of capabilities(7).
func names() []string {
	return []string{"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
		"NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE",
		"SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL",
		"SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"}
}

// has says whether a capability is in the set.
func (c Capabilities) has(number int) bool { return c&(1<<number) != 0 }

// String names them, without CAP_; a set that has nearly all is named by those that it lacks.
func (c Capabilities) String() string {
	var in, out []string
	for i, name := range names() {
		if c.has(i) {
			in = append(in, name)
		} else {
			out = append(out, name)
		}
	}
	switch {
	case len(out) == 0:
		return "all"
	case len(in) == 0:
		return "none"
	case len(out) < len(in):
		return "all but " + strings.Join(out, " ")
	}
	return strings.Join(in, " ")
}

// The numbers of the capabilities that are kept.
const (
	dacOverride    = 1
	dacReadSearch  = 2
	netBindService = 10
	netAdmin       = 12

	needed  Capabilities = 1<<netAdmin | 1<<netBindService
	readAll Capabilities = 1 << dacReadSearch
)

// Config says what a process needs once it has started.
type Config struct {
	// Read is the files and directories that it reads: what replaces them later is read, too. Those
	// that do not exist are left out.
	Read []string
	// Write is the files that it writes, and the directories in which it does. The files exist.
	Write []string
	// Sockets is the directories in which it makes sockets. They exist.
	Sockets []string
	// Plugin is a program that it runs; "" if it runs none.
	Plugin string
}
