// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nodeaddr

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
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

	mu      sync.Mutex
	addrs   []netip.Addr
	primary [2]netip.Addr
}

// Watch lists the addresses and begins to follow them, until Close. The end of ctx ends only the first list, which
// may be tried for long where addresses keep changing. warn, if not nil, is told when a list fails for a while.
func Watch(ctx context.Context, warn func(error)) (*Watcher, error) {
	if warn == nil {
		warn = func(error) {}
	}
	w := &Watcher{warn: warn, home: netns.None(), changed: make(chan struct{}, 1), stop: make(chan struct{})}
	w.dump = func() ([]netlink.Addr, error) { return w.handle.AddrList(nil, netlink.FAMILY_ALL) }
	if err := w.start(ctx); err != nil {
		w.Close()
		return nil, fmt.Errorf("watch the node's addresses: %w", err)
	}
	return w, nil
}

func (w *Watcher) start(ctx context.Context) error {
	var err error
	if w.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return err
	}
	if w.home, err = foreignNamespace(); err != nil {
		return err
	}
	updates, err := w.subscribe()
	if err != nil {
		return err
	}
	if err := w.list(ctx.Done()); err != nil { // after the subscription, so that nothing is missed
		if ctx.Err() != nil {
			return ctx.Err()
		}
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

// groups are the kernel's messages about what the addresses, and the choice among them, depend on.
var groups = []uint{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE}

// subscribe asks for changes. The channel is closed when the kernel had more of
// them than fitted its buffer, or after another error.
func (w *Watcher) subscribe() (<-chan struct{}, error) {
	socket, err := nl.SubscribeAt(w.home, netns.None(), unix.NETLINK_ROUTE, groups...)
	if err != nil {
		return nil, err
	}
	if err := socket.SetReceiveBufferSize(1<<20, false); err != nil {
		socket.Close()
		return nil, err
	}
	updates, ended := make(chan struct{}, 1), make(chan struct{})
	w.done.Go(func() { // it ends the other one
		select {
		case <-w.stop:
		case <-ended:
		}
		socket.Close()
	})
	w.done.Go(func() {
		defer close(updates)
		defer close(ended)
		for {
			messages, from, err := socket.Receive()
			if err != nil {
				return // what is lost is listed again
			}
			if from.Pid == nl.PidKernel && slices.ContainsFunc(messages, matters) {
				notify(updates, struct{}{})
			}
		}
	})
	return updates, nil
}

// matters says whether the addresses may be others after a message. Of routes only default ones count:
// some nodes have many of the others. The kernel does not tell of IPv4 routes that go with an interface
// that goes down; it tells of the interface.
func matters(m syscall.NetlinkMessage) bool {
	switch m.Header.Type {
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return len(m.Data) >= unix.SizeofRtMsg && nl.DeserializeRtMsg(m.Data).Dst_len == 0
	case unix.RTM_NEWLINK:
		return len(m.Data) >= unix.SizeofIfInfomsg && nl.DeserializeIfInfomsg(m.Data).Flags&unix.IFF_UP == 0
	}
	return true
}

// Addrs returns the addresses, sorted, those of loopback interfaces included, and
// link-local ones, those that duplicate address detection has not let through and
// those of IPVSLink left out. The slice is shared: callers do not change it.
func (w *Watcher) Addrs() []netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.addrs
}

// Primary returns, by family (IPv4, IPv6), the address that other hosts know the node by where nobody says:
// that with which it sends by its default route. Without such a route it is one of the interface that
// came first; without any address that others can reach it is invalid.
func (w *Watcher) Primary() [2]netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.primary
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

// RouteTo says why the calling thread's network namespace has no route to an address; nil: it has one.
func RouteTo(a netip.Addr) error {
	routes, err := netlink.RouteGet(a.AsSlice())
	if err == nil && len(routes) == 0 {
		err = unix.EHOSTUNREACH
	}
	if err != nil {
		return fmt.Errorf("get route to %s: %w", a, err)
	}
	return nil
}

// Changed gets a value when the addresses, or the primary ones, have changed.
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

func (w *Watcher) run(updates <-chan struct{}) {
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
				err = w.list(w.stop)
			}
			if err != nil {
				w.warn(fmt.Errorf("follow the node's addresses: %w: trying again", err))
				settling = true
				settle.Reset(retryTime)
			}
		}
	}
}

// list reads the addresses, and tells if they have changed. It gives up when stop is closed.
func (w *Watcher) list(stop <-chan struct{}) error {
	list, err := whole(stop, w.warn, "addresses", w.dump)
	if err != nil {
		return err
	}
	services, err := w.servicesLink()
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(a netlink.Addr) bool { return services != 0 && a.LinkIndex == services })
	var primary [2]netip.Addr
	for i, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		r, err := w.routing(stop, family)
		if err != nil {
			return err
		}
		primary[i] = primaryOf(r, slices.DeleteFunc(slices.Clone(list), func(a netlink.Addr) bool { return (a.IP.To4() != nil) != (family == netlink.FAMILY_V4) }))
	}
	var addrs []netip.Addr
	for i := range list {
		if a, ok := addressOf(&list[i]); ok {
			addrs = append(addrs, a)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	w.mu.Lock()
	changed := !slices.Equal(addrs, w.addrs) || primary != w.primary
	w.addrs, w.primary = addrs, primary
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

// routing reads the rules and the default routes of a family. A kernel without rules, or without the family, has none.
func (w *Watcher) routing(stop <-chan struct{}, family int) (r routing, err error) {
	absent := func(err error) bool { return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) }
	r.rules, err = whole(stop, w.warn, "routing rules", func() ([]netlink.Rule, error) { return w.handle.RuleList(family) })
	if err != nil && !absent(err) {
		return r, fmt.Errorf("list routing rules: %w", err)
	}
	r.routes, err = whole(stop, w.warn, "default routes", func() ([]netlink.Route, error) {
		filter := netlink.Route{Table: unix.RT_TABLE_UNSPEC} // all tables; no Dst: default routes
		return w.handle.RouteListFiltered(family, &filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
	})
	if err != nil && !absent(err) {
		return r, fmt.Errorf("list default routes: %w", err)
	}
	return r, nil
}

// whole lists until nothing changes meanwhile: the kernel says so in the middle of a list that may lack some. It tries
// without a pause once, then less and less often, until stop is closed. warn is told of a list that takes long.
func whole[T any](stop <-chan struct{}, warn func(error), what string, dump func() ([]T, error)) ([]T, error) {
	list, err := dump()
	for pause := firstPause; errors.Is(err, netlink.ErrDumpInterrupted); pause = min(2*pause, retryTime) {
		if pause == retryTime {
			warn(fmt.Errorf("list the node's %s: they or the interfaces keep changing: %w: trying again", what, err))
		}
		list, err = dump()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
		select {
		case <-stop:
			return nil, err
		case <-time.After(pause):
		}
	}
	return list, err
}

// notify sends a value unless one is waiting already.
func notify[T any](c chan T, v T) {
	select {
	case c <- v:
	default:
	}
}
