// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nodeaddr

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// settleTime is how long a change waits for others, but not for ever more of them: an
// interface that comes up gets several addresses.
const settleTime = 20 * time.Millisecond

// retryTime is how long to wait after a failure.
const retryTime = time.Second

// firstPause is how long to wait after a list that was interrupted, the first time; up to retryTime later.
const firstPause = time.Millisecond

// Watcher knows the node's addresses. Its methods may be called from several
// goroutines.
type Watcher struct {
	handle  *netlink.Handle
	dump    func() ([]netlink.Addr, error) // lists the addresses
	home    netns.NsHandle                 // the network namespace, if it is not the process's
	warn    func(error)
	changed chan struct{}
	stop    chan struct{}
	done    sync.WaitGroup

	mu    sync.Mutex
	addrs []netip.Addr
}

// Watch lists the addresses and begins to follow them. warn, if not nil, is told
// when that fails for a while.
func Watch(warn func(error)) (*Watcher, error) {
	if warn == nil {
		warn = func(error) {}
	}
	w := &Watcher{warn: warn, home: netns.None(), changed: make(chan struct{}, 1), stop: make(chan struct{})}
	if err := w.start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("watch the node's addresses: %w", err)
	}
	return w, nil
}

func (w *Watcher) start() error {
	var err error
	if w.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return err
	}
	w.dump = func() ([]netlink.Addr, error) { return w.handle.AddrList(nil, netlink.FAMILY_ALL) }
	if w.home, err = foreignNamespace(); err != nil {
		return err
	}
	updates, err := w.subscribe()
	if err != nil {
		return err
	}
	if err := w.list(); err != nil { // after the subscription, so that nothing is missed
		return err
	}
	w.done.Go(func() { w.run(updates) })
	return nil
}

// foreignNamespace returns the calling thread's network namespace if it is not the
// process's, as in tests, else none: to enter a namespace, even one's own, needs
// CAP_SYS_ADMIN, which the DaemonSet does not have.
func foreignNamespace() (netns.NsHandle, error) {
	thread, err := netns.Get()
	if err != nil {
		return netns.None(), err
	}
	process, err := netns.GetFromPid(os.Getpid())
	if err != nil {
		_ = thread.Close()
		return netns.None(), err
	}
	defer func() { _ = process.Close() }()
	if !thread.Equal(process) {
		return thread, nil
	}
	return netns.None(), thread.Close()
}

// subscribe asks for changes. The channel is closed when the kernel had more of
// them than fitted its buffer, or after another error.
func (w *Watcher) subscribe() (<-chan netlink.AddrUpdate, error) {
	updates := make(chan netlink.AddrUpdate, 64)
	err := netlink.AddrSubscribeWithOptions(updates, w.stop, netlink.AddrSubscribeOptions{
		Namespace:         &w.home,
		ErrorCallback:     func(error) {}, // what is lost is listed again
		ReceiveBufferSize: 1 << 20,
	})
	if err != nil {
		return nil, err
	}
	return updates, nil
}

// Addrs returns the addresses, sorted, those of loopback interfaces included, and
// link-local ones, those that duplicate address detection has not let through and
// those of IPVSLink left out. The slice is shared: callers do not change it.
func (w *Watcher) Addrs() []netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.addrs
}

// InterfaceTo returns the name of the interface that packets to an address leave by.
func (w *Watcher) InterfaceTo(a netip.Addr) (string, error) {
	routes, err := w.handle.RouteGet(a.AsSlice())
	if err == nil && len(routes) == 0 {
		err = unix.EHOSTUNREACH
	}
	if err != nil {
		return "", fmt.Errorf("get route to %s: %w", a, err)
	}
	link, err := w.handle.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return "", fmt.Errorf("get interface of the route to %s: %w", a, err)
	}
	return link.Attrs().Name, nil
}

// Changed gets a value when the addresses have changed.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Close ends the watch.
func (w *Watcher) Close() {
	close(w.stop)
	w.done.Wait()
	if w.handle != nil {
		w.handle.Close()
	}
	if w.home.IsOpen() {
		_ = w.home.Close()
	}
}

func (w *Watcher) run(updates <-chan netlink.AddrUpdate) {
	settle := time.NewTimer(0)
	settle.Stop()
	settling := false
	for {
		select {
		case <-w.stop:
			return
		case _, ok := <-updates:
			if !ok {
				updates = nil
			}
			if !settling {
				settling = true
				settle.Reset(settleTime)
			}
		case <-settle.C:
			settling = false
			var err error
			if updates == nil {
				updates, err = w.subscribe()
			}
			if err == nil {
				err = w.list()
			}
			if err != nil {
				w.warn(fmt.Errorf("follow the node's addresses: %w: trying again", err))
				settling = true
				settle.Reset(retryTime)
			}
		}
	}
}

// listWhole lists the addresses until nothing changes meanwhile: the kernel says so in the middle of a list that
// may lack some. It tries without a pause once, then less and less often, until the watch ends.
func (w *Watcher) listWhole() ([]netlink.Addr, error) {
	list, err := w.dump()
	for pause := firstPause; errors.Is(err, netlink.ErrDumpInterrupted); pause = min(2*pause, retryTime) {
		if pause == retryTime {
			w.warn(fmt.Errorf("list the node's addresses: they or the interfaces keep changing: %w: trying again", err))
		}
		list, err = w.dump()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
		select {
		case <-w.stop:
			return nil, err
		case <-time.After(pause):
		}
	}
	return list, err
}

// list reads the addresses, and tells if they have changed.
func (w *Watcher) list() error {
	list, err := w.listWhole()
	if err != nil {
		return err
	}
	others, err := w.servicesLink()
	if err != nil {
		return err
	}
	var addrs []netip.Addr
	for _, a := range list {
		addr, ok := netip.AddrFromSlice(a.IP)
		if addr = addr.Unmap(); !ok || a.LinkIndex == others || addr.IsLinkLocalUnicast() || a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 {
			continue
		}
		addrs = append(addrs, addr)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	w.mu.Lock()
	changed := !slices.Equal(addrs, w.addrs)
	w.addrs = addrs
	w.mu.Unlock()
	if changed {
		notify(w.changed, struct{}{})
	}
	return nil
}

// servicesLink returns the index of the link that has addresses of Services; 0 if there is none.
func (w *Watcher) servicesLink() (int, error) {
	link, err := w.handle.LinkByName(IPVSLink)
	if missing := (netlink.LinkNotFoundError{}); errors.As(err, &missing) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return link.Attrs().Index, nil
}

// notify sends a value unless one is waiting already.
func notify[T any](c chan T, v T) {
	select {
	case c <- v:
	default:
	}
}
