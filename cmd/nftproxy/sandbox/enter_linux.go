// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Enter takes from all threads of this process the rights that it does not need. It goes as far
// as it can: notes says what stays as it was, and why. Only the start of a process is the time for it.
func Enter(c Config) (notes []string) {
	if err := prctl(unix.PR_GET_NO_NEW_PRIVS, 0); errors.Is(err, unix.ENOTSUP) {
		return []string{"all: this program was built with cgo (build it with CGO_ENABLED=0)"}
	}
	note := func(what string, err error) {
		if err != nil {
			notes = append(notes, what+": "+err.Error())
		}
	}
	var files *ruleset
	if c.Plugin == "" {
		var err error
		files, err = prepare(c)
		note("Landlock", err)
	} else {
		notes = append(notes, fmt.Sprintf("the bounding set, no_new_privs, Landlock: the credential plugin %q would inherit them", c.Plugin))
	}
	keep := needed
	if path := closed(c.Read); path != "" {
		keep |= readAll
		notes = append(notes, fmt.Sprintf("CAP_DAC_READ_SEARCH: %s is closed to this user without it", path))
	}
	restore := keepOOMScore()
	if c.Plugin == "" {
		note("the bounding set", bound(keep))
	}
	note("capabilities", limit(keep))
	restore()
	if c.Plugin != "" {
		return notes
	}
	note("no_new_privs", prctl(unix.PR_SET_NO_NEW_PRIVS, 1))
	if files != nil {
		note("Landlock", files.enforce())
	}
	return notes
}

// prctl is prctl(2) on all threads.
func prctl(option, value uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, option, value, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// bound takes capabilities out of the bounding set. Who may not (without CAP_SETPCAP) is none who
// could gain them: no_new_privs is set next.
func bound(keep Capabilities) error {
	for i := range names() {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(i), 0, 0, 0)
		if err != nil || has == 0 || keep.has(i) {
			continue // an older kernel does not know it
		}
		err = prctl(unix.PR_CAPBSET_DROP, uintptr(i))
		if errors.Is(err, unix.EPERM) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// capabilitySets is what capset takes.
type capabilitySets struct {
	header unix.CapUserHeader
	data   [2]unix.CapUserData
}

func currentSets() (*capabilitySets, error) {
	s := &capabilitySets{header: unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}}
	return s, unix.Capget(&s.header, &s.data[0])
}

func (s *capabilitySets) permitted() Capabilities {
	return Capabilities(s.data[1].Permitted)<<32 | Capabilities(s.data[0].Permitted)
}

// limit keeps only some of the capabilities that the process has.
func limit(keep Capabilities) error {
	s, err := currentSets()
	if err != nil {
		return err
	}
	for i := range s.data {
		permitted := s.data[i].Permitted & uint32(keep>>(32*i)) //nolint:gosec // one of the halves of the 64 bits
		s.data[i] = unix.CapUserData{Permitted: permitted, Effective: permitted}
	}
	ambient := prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&s.header)), uintptr(unsafe.Pointer(&s.data[0])), 0) //nolint:gosec // the system call takes addresses
	runtime.KeepAlive(s)
	if errno != 0 {
		return errno
	}
	if ambient != nil {
		return fmt.Errorf("clear the ambient set: %w", ambient)
	}
	return nil
}

// closed returns the first of some files and directories, or of what is in these, that this user
// may not read without a capability; "" if there is none, or if no capability helps.
func closed(paths []string) string {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	had, err := currentSets()
	const power = readAll | 1<<dacOverride
	if err != nil || had.permitted()&readAll == 0 {
		return ""
	}
	without := *had
	without.data[0].Effective &^= uint32(power)
	if unix.Capset(&without.header, &without.data[0]) != nil {
		return ""
	}
	defer func() { _ = unix.Capset(&had.header, &had.data[0]) }()
	for _, path := range paths {
		for _, p := range append([]string{path}, entries(path, 0)...) {
			if !mayRead(p) {
				return p
			}
		}
	}
	return ""
}

// mayRead is false only where the user's rights do not suffice.
func mayRead(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return !errors.Is(err, unix.EACCES)
}

// entries returns what is in a directory, of a kind: 0 is files.
func entries(path string, kind os.FileMode) []string {
	list, _ := os.ReadDir(path)
	var out []string
	for _, entry := range list {
		if entry.Type() == kind {
			out = append(out, filepath.Join(path, entry.Name()))
		}
	}
	return out
}

// keepOOMScore lets the process choose any OOM score later, for which it needs CAP_SYS_RESOURCE: without that
// the score can become as low as it once was with it. restore, after that is gone, gives it its score back.
func keepOOMScore() (restore func()) {
	const file, lowest = "/proc/self/oom_score_adj", "-1000"
	score, err := os.ReadFile(file)
	if err != nil || os.WriteFile(file, []byte(lowest), 0) != nil {
		return func() {}
	}
	return func() { _ = os.WriteFile(file, []byte(strings.TrimSpace(string(score))), 0) } //nolint:gosec // the file is a constant
}
