// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ABI returns which version of Landlock the kernel has. The error says why it has none.
func ABI() (int, error) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch {
	case errno == 0:
		return int(version), nil
	case errors.Is(errno, unix.ENOSYS):
		return 0, errors.New("this kernel has none (5.13 and newer have it), or a container's seccomp profile forbids it")
	case errors.Is(errno, unix.EOPNOTSUPP):
		return 0, errors.New("it was switched off when this kernel was started (lsm=landlock,... on its command line switches it on)")
	}
	return 0, errno
}

const (
	read      = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	readWrite = read | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	// sockets is what it takes to make one, give it its name and take it away.
	sockets = read | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
	// ofFiles is what can be allowed of something that is no directory.
	ofFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// handled returns all that a version can forbid of files.
func handled(abi int) uint64 {
	all := uint64(unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1)
	for version, access := range map[int]uint64{2: unix.LANDLOCK_ACCESS_FS_REFER, 3: unix.LANDLOCK_ACCESS_FS_TRUNCATE, 5: unix.LANDLOCK_ACCESS_FS_IOCTL_DEV} {
		if abi >= version {
			all |= access
		}
	}
	return all
}

// ruleset is what a process may do with files.
type ruleset struct {
	fd      int
	handled uint64
}

// prepare makes the ruleset of a process.
func prepare(c Config) (*ruleset, error) {
	abi, err := ABI()
	if err != nil {
		return nil, err
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handled(abi)}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr.Handled_access_fs), 0) //nolint:gosec // the system call takes an address
	runtime.KeepAlive(&attr)
	if errno != 0 {
		return nil, fmt.Errorf("make a ruleset: %w", errno)
	}
	r := &ruleset{int(fd), attr.Handled_access_fs}
	errs := []error{r.allow("/dev/null", readWrite)}
	for _, path := range readable(c.Read) {
		errs = append(errs, r.allow(path, read))
	}
	for _, path := range c.Write {
		errs = append(errs, r.allow(path, readWrite))
	}
	for _, path := range c.Sockets {
		errs = append(errs, r.allow(path, sockets))
	}
	if err := errors.Join(errs...); err != nil {
		_ = unix.Close(r.fd)
		return nil, err
	}
	return r, nil
}

// allow allows something of a file, or of all below a directory, if it is there. The kernel
// knows it by its inode, and /proc forgets those that nobody holds: it stays open.
func (r *ruleset) allow(path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil //nolint:nilerr // what is not there needs no rule
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= ofFiles
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access & r.handled, Parent_fd: int32(fd)} //nolint:gosec // a file descriptor
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(r.fd), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0) //nolint:gosec // the system call takes an address
	runtime.KeepAlive(&rule)
	if errno != 0 {
		return fmt.Errorf("allow %s: %w", path, errno)
	}
	return nil
}

// enforce puts it in force for all threads, for ever. It stays open, which shows that.
func (r *ruleset) enforce() error {
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(r.fd), 0, 0)
	if errno != 0 {
		_ = unix.Close(r.fd)
		return errno
	}
	return nil
}

// readable returns the directories that have to be read for files and directories: where these are,
// and where the links lead. A file's directory is allowed, not the file: what replaces it is another inode.
func readable(own []string) []string {
	out := []string{"/etc", "/usr", "/proc", "/sys", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/var/run/secrets"}
	for _, path := range slices.Concat(own, libraryFiles()) {
		for _, p := range append([]string{path}, entries(path, os.ModeSymlink)...) {
			out = append(out, holders(p)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// libraryFiles are what Go's libraries read: name servers, certificate authorities, the time zone.
func libraryFiles() []string {
	list := []string{"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/localtime",
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"}
	for _, variable := range []string{"SSL_CERT_FILE", "SSL_CERT_DIR"} {
		list = append(list, filepath.SplitList(os.Getenv(variable))...)
	}
	return list
}

// holders returns the directories that hold a path and what it leads to, and what it is itself if it is one.
func holders(path string) []string {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	out := []string{filepath.Dir(path)}
	if target, err := filepath.EvalSymlinks(path); err == nil && target != path {
		out = append(out, filepath.Dir(target))
		path = target
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		out = append(out, path)
	}
	return out
}
