// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is another process that may change this node's rules.
type Process struct {
	ID   string   // of /proc
	Args []string // after the program's name
	// Directory is where it works, to which Args may be relative; "" if that cannot be seen.
	Directory string
	// Doubt is why Args count for nothing; "" if they may be believed.
	Doubt string

	path     string // its directory in /proc
	seen     identity
	isolated bool // it is in another mount namespace, as systemd makes them: some files may be others
}

// Processes is those of a /proc, which is below Root.
type Processes struct{ Root string }

// Find returns the processes of a name in this network namespace that may change its
// rules, without this process. notes says of each other one why it is left out; those
// of other network namespaces are nobody's business.
func (p Processes) Find(name string) (found []Process, notes []string) {
	here, err := openProcess(p.path("self"))
	if err != nil {
		return nil, nil // there is no /proc
	}
	defer here.Close()
	us, err := here.look()
	if err != nil {
		return nil, []string{fmt.Sprintf("whether %s runs cannot be told: this process cannot look at itself: %v", name, err)}
	}
	self, _ := os.Readlink(p.path("self"))
	paths, _ := filepath.Glob(p.path("[0-9]*"))
	for _, path := range paths {
		if filepath.Base(path) == self {
			continue
		}
		process, err := p.find(path, name, us)
		if err != nil {
			notes = append(notes, fmt.Sprintf("process %s is named %s and is left out: %v", filepath.Base(path), name, err))
		} else if process != nil {
			found = append(found, *process)
		}
	}
	return found, notes
}

func (p Processes) path(process string) string { return filepath.Join(p.Root, "proc", process) }

// find returns a process if it has the name and counts; nil if it is somewhere else or gone.
func (p Processes) find(path, name string, us identity) (*Process, error) {
	dir, err := openProcess(path)
	if err != nil {
		return nil, nil // it is gone
	}
	defer dir.Close()
	if comm, readErr := dir.read("comm"); readErr != nil || strings.TrimSuffix(comm, "\n") != name {
		return nil, nil // it is gone
	}
	it, err := dir.look()
	switch {
	case gone(err):
		return nil, nil
	case err != nil:
		return nil, err
	case it.unseen["net"] != nil:
		return nil, fmt.Errorf("its network namespace cannot be seen (%w), so it is taken for another node's: root sees more", it.unseen["net"])
	case it.namespaces["net"] != us.namespaces["net"]:
		return nil, nil
	case !it.privileged(us):
		return nil, fmt.Errorf("it is of uid %d, which may not change this node's rules", it.stranger())
	}
	args, err := dir.read("cmdline")
	if gone(err) {
		return nil, nil
	}
	cwd, _ := dir.link("cwd")
	if again, err2 := dir.look(); err == nil && (err2 != nil || !again.same(it)) {
		err = errors.New("it became another program while it was looked at")
	}
	if err != nil {
		return nil, err
	}
	list := strings.Split(strings.TrimSuffix(args, "\x00"), "\x00")
	return &Process{ID: filepath.Base(path), Args: list[1:], Directory: cwd, Doubt: it.doubt(us),
		path: path, seen: it, isolated: it.namespaces["mnt"] != us.namespaces["mnt"]}, nil
}

// Shares returns an error unless an absolute path leads to the same file for the process as for this one. In another mount
// namespace, such as systemd or 'ip netns exec' makes, most do.
func (p *Process) Shares(path string) error {
	if !p.isolated {
		return nil
	}
	dir, err := openProcess(p.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	theirs, err := dir.fileAt(path)
	if it, lookErr := dir.look(); lookErr != nil || !it.same(p.seen) {
		return fmt.Errorf("process %s has ended or become another program", p.ID)
	}
	var st unix.Stat_t
	err = errors.Join(err, unix.Stat(path, &st))
	if err == nil && theirs != inodeOf(&st) {
		err = errors.New("it is another file there, as in a container")
	}
	if err != nil {
		return fmt.Errorf("%s in its mount namespace: %w", path, err)
	}
	return nil
}

// Here says whether the process is in the mount namespace of this one, and so not in another container.
func (p *Process) Here() bool { return !p.isolated }

// gone says whether an error means that a process has ended.
func gone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// processDir is an open directory /proc/PID. As the kernel has it, that is a pidfd: what is
// opened through it is of this process or fails, also when its number has gone to another.
type processDir struct{ fd int }

func openProcess(path string) (processDir, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return processDir{fd}, err
}

// Close closes it.
func (d processDir) Close() { _ = unix.Close(d.fd) }

// most is more than the kernel lets a command line have by default (2 MiB).
const most = 4 << 20

// read reads a file.
func (d processDir) read(name string) (string, error) {
	fd, err := unix.Openat(d.fd, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, most))
	return string(text), err
}

// link reads a symbolic link.
func (d processDir) link(name string) (string, error) {
	var buffer [unix.PathMax]byte
	n, err := unix.Readlinkat(d.fd, name, buffer[:])
	if err != nil {
		return "", err
	}
	return string(buffer[:n]), nil
}

// inode is a file, whatever its names are.
type inode struct{ device, number uint64 }

// file returns the file that a link leads to.
func (d processDir) file(name string) (inode, error) {
	var st unix.Stat_t
	err := unix.Fstatat(d.fd, name, &st, 0)
	return inodeOf(&st), err
}

// fileAt returns the file to which an absolute path leads the process.
func (d processDir) fileAt(path string) (inode, error) {
	root, err := unix.Openat(d.fd, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return inode{}, err
	}
	defer func() { _ = unix.Close(root) }()
	fd, err := unix.Openat2(root, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return inode{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	return inodeOf(&st), err
}

func inodeOf(st *unix.Stat_t) inode { return inode{st.Dev, st.Ino} }

// identity is who a process is, as the kernel says.
type identity struct {
	uids       [4]int // real, effective, saved, of the file system
	netAdmin   bool   // it has CAP_NET_ADMIN, in its user namespace
	namespaces map[string]string
	executable inode
	root       inode
	unseen     map[string]error // what of this could not be seen
}

// look returns who a process is. Of another user's, all but the uids may be unseen.
func (d processDir) look() (identity, error) {
	it := identity{namespaces: map[string]string{}, unseen: map[string]error{}}
	status, err := d.read("status")
	if err != nil {
		return it, err
	}
	if err = it.parse(status); err != nil {
		return it, err
	}
	for _, kind := range []string{"net", "mnt", "user"} {
		if it.namespaces[kind], err = d.link("ns/" + kind); err != nil {
			it.unseen[kind] = err
		}
	}
	for name, to := range map[string]*inode{"exe": &it.executable, "root": &it.root} {
		if *to, err = d.file(name); err != nil {
			it.unseen[name] = err
		}
	}
	if err := it.unseen["net"]; gone(err) {
		return it, err // a zombie has no namespaces
	}
	return it, nil
}

// parse reads /proc/PID/status.
func (it *identity) parse(status string) error {
	var uids, caps []string
	for line := range strings.Lines(status) {
		switch name, value, _ := strings.Cut(line, ":"); name {
		case "Uid":
			uids = strings.Fields(value)
		case "CapPrm":
			caps = strings.Fields(value)
		}
	}
	if len(uids) != len(it.uids) || len(caps) != 1 {
		return errors.New("its status has no Uid or no CapPrm")
	}
	var errs [5]error
	for i := range uids {
		it.uids[i], errs[i] = strconv.Atoi(uids[i])
	}
	bits, err := strconv.ParseUint(caps[0], 16, 64)
	errs[4], it.netAdmin = err, bits&(1<<unix.CAP_NET_ADMIN) != 0
	return errors.Join(errs[:]...)
}

// same says whether two looks saw the same.
func (it *identity) same(other identity) bool {
	same := it.uids == other.uids && it.executable == other.executable && it.root == other.root
	for kind, ns := range it.namespaces {
		same = same && ns == other.namespaces[kind]
	}
	return same
}

// stranger returns a uid of the process that is neither root's nor this user's; root's if it has none.
func (it *identity) stranger() int {
	for _, uid := range it.uids {
		if !trusted(uint32(uid)) { //nolint:gosec // uids have 32 bits
			return uid
		}
	}
	return 0
}

// privileged says whether a process may change the rules of this network namespace: it is
// root's or this user's, or has been given the capability in this user namespace.
func (it *identity) privileged(us identity) bool {
	return it.stranger() == 0 || it.netAdmin && it.unseen["user"] == nil && it.namespaces["user"] == us.namespaces["user"]
}

// doubt says why what a process says of itself may not be believed; "" if it may.
func (it *identity) doubt(us identity) string {
	for _, what := range []struct{ key, name string }{{"exe", "executable"}, {"mnt", "mount namespace"}, {"root", "root directory"}} {
		if err := it.unseen[what.key]; err != nil {
			return fmt.Sprintf("its %s cannot be seen (%v)", what.name, err)
		}
	}
	switch {
	case it.stranger() != 0:
		return fmt.Sprintf("it is of uid %d, which is neither root's nor this user's", it.stranger())
	case it.root != us.root:
		return "it has other files, as in a container"
	case it.executable != us.executable:
		return "its executable is another file than this program's, as after an upgrade"
	}
	return ""
}

// trusted says whether a uid is root's or this user's.
func trusted(uid uint32) bool { return uid == 0 || uid == uint32(os.Geteuid()) } //nolint:gosec // uids have 32 bits
