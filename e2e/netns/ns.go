// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// errGoexit is what Do returns when fn never returned: t.FailNow was called in it.
var errGoexit = errors.New("function ended its goroutine instead of returning (t.FailNow or runtime.Goexit)")

// The source ports of clients.
const (
	firstPort = 33000
	portCount = 28000
)

// NS is a network namespace that lives until Close, or the end of the process.
// Its methods may be called from several goroutines.
type NS struct {
	name string
	file *os.File
	port atomic.Uint32 // counts the source ports handed out

	mu    sync.Mutex
	bound string // path of the bind mount, if any
}

// New makes an empty namespace whose loopback device is up. The name is only
// for messages and Bind.
func New(name string) (*NS, error) {
	n := newHandle(name, nil)
	err := onOwnThread(func() (bool, error) {
		home, err := openThreadNS()
		if err != nil {
			return true, err
		}
		defer home.Close()
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return true, fmt.Errorf("unshare (it needs CAP_SYS_ADMIN): %w", err)
		}
		n.file, err = openThreadNS()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
			return false, errors.Join(err, back)
		}
		return true, err
	})
	if err == nil {
		err = n.loopbackUp()
	}
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("make network namespace %s: %w", name, err)
	}
	return n, nil
}

// Current returns the namespace of the calling thread.
func Current() (*NS, error) {
	file, err := openThreadNS()
	if err != nil {
		return nil, err
	}
	return newHandle("current", file), nil
}

// Open returns the namespace that a path stands for, such as /proc/PID/ns/net. The
// name is only for messages.
func Open(name, path string) (*NS, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", name, err)
	}
	return newHandle(name, file), nil
}

func newHandle(name string, file *os.File) *NS {
	n := &NS{name: name, file: file}
	// Namespaces whose ports went in step would collide where one masquerades the other.
	n.port.Store(rand.Uint32N(portCount))
	return n
}

// Name returns the name given to New.
func (n *NS) Name() string { return n.name }

// Fd returns the namespace's file descriptor, which NS goes on owning.
func (n *NS) Fd() int { return int(n.file.Fd()) }

// Path returns a path that other processes can open (nsenter --net=PATH) for
// as long as this process holds the namespace open.
func (n *NS) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.Fd()) }

// Do runs fn inside the namespace, on a thread of its own, and waits for it.
// Sockets that fn opens and processes that it starts stay in the namespace;
// goroutines that it starts are not in it.
func (n *NS) Do(fn func() error) error {
	return onOwnThread(func() (bool, error) { return n.enter(fn) })
}

// Go is Do without waiting: the channel receives fn's error, once.
func (n *NS) Go(fn func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- n.Do(fn) }()
	return done
}

// Netlink opens a route netlink handle in the namespace. The caller closes it.
func (n *NS) Netlink() (*netlink.Handle, error) {
	var handle *netlink.Handle
	err := n.Do(func() (err error) {
		handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open netlink in network namespace %s: %w", n.name, err)
	}
	return handle, nil
}

// NextPort hands out source ports from 33000 to 60999, so that none comes twice
// before all 28,000 have come. (The kernel's own choice repeats by chance while
// connection tracking still remembers the port, and such a connection is no new
// one to a load balancer.)
func (n *NS) NextPort() uint16 {
	return uint16(firstPort + n.port.Add(1)%portCount)
}

// Close lets go of the namespace and of its name. The kernel removes it,
// shortly after, unless a socket or a process is left in it.
func (n *NS) Close() error {
	if n.file == nil {
		return nil
	}
	err := n.unbind()
	if closing := n.file.Close(); !errors.Is(closing, os.ErrClosed) {
		err = errors.Join(err, closing)
	}
	return err
}

func (n *NS) loopbackUp() error {
	handle, err := n.Netlink()
	if err != nil {
		return err
	}
	defer handle.Close()
	return loopbackUp(handle)
}

// loopbackUp sets the loopback device of a handle's namespace up.
func loopbackUp(handle *netlink.Handle) error {
	lo, err := handle.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback device: %w", err)
	}
	if err := handle.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set the loopback device up (it needs CAP_NET_ADMIN): %w", err)
	}
	return nil
}

// enter runs fn on the calling, locked thread inside the namespace. If the
// thread could not be brought back, restored is false.
func (n *NS) enter(fn func() error) (restored bool, err error) {
	home, err := openThreadNS()
	if err != nil {
		return true, err
	}
	defer home.Close()
	if err = unix.Setns(n.Fd(), unix.CLONE_NEWNET); err != nil {
		return true, fmt.Errorf("enter network namespace %s: %w", n.name, err)
	}
	err = fn()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return false, errors.Join(err, fmt.Errorf("leave network namespace %s: %w", n.name, back))
	}
	return true, err
}

// onOwnThread runs fn on a locked thread and waits for it. A thread that fn
// could not restore is never unlocked, so it dies with its goroutine.
func onOwnThread(fn func() (restored bool, err error)) error {
	done := make(chan error, 1)
	go func() {
		err := errGoexit
		defer func() { done <- err }()
		runtime.LockOSThread()
		var restored bool
		if restored, err = fn(); restored {
			runtime.UnlockOSThread()
		}
	}()
	return <-done
}

func openThreadNS() (*os.File, error) {
	file, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open the thread's network namespace (is /proc mounted?): %w", err)
	}
	return file, nil
}
