// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
)

// What client-go has of its own.
const (
	dialTimeout   = 30 * time.Second
	dialKeepAlive = 30 * time.Second
)

// lookUpTime is how long the name of an API server is looked up at most, before it is dialled.
const lookUpTime = 5 * time.Second

// Addresses knows at which addresses API servers are reached: those that configurations name, and those that are
// dialled, which are more where a name has several addresses, or others after it has changed, or a proxy's. A nil
// one knows none.
type Addresses struct {
	mu sync.Mutex // guards what follows; changes are told under it, in their order
	reached
}

// reached is where API servers are reached, and who is told of it. It is for one goroutine at a time.
type reached struct {
	hosts map[string]map[netip.AddrPort]struct{} // by host:port, as it is dialled
	tell  func([]netip.AddrPort)
	told  []netip.AddrPort
}

// Use makes a client's configuration tell where it connects to. It forgets the hosts of the configurations before,
// which this one takes the place of; what their clients still dial is known again.
func (a *Addresses) Use(config *rest.Config) {
	if a == nil {
		return
	}
	a.mu.Lock()
	a.hosts = nil
	a.mu.Unlock()
	if address, ok := hostPort(config); ok {
		a.lookUp(context.Background(), address)
	}
	dial := config.Dial
	config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		a.lookUp(ctx, address)
		if dial != nil {
			return dial(ctx, network, address)
		}
		d := net.Dialer{Timeout: dialTimeout, KeepAlive: dialKeepAlive, Control: func(_, to string, _ syscall.RawConn) error {
			if at, err := netip.ParseAddrPort(to); err == nil {
				a.add(address, at) // before it is connected to: a Service may have it
			}
			return nil
		}}
		return d.DialContext(ctx, network, address)
	}
}

// hostPort returns where a configuration's API server is, as it is dialled.
func hostPort(config *rest.Config) (string, bool) {
	u, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return "", false
	}
	return net.JoinHostPort(u.Hostname(), portOf(u)), true
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}

// lookUp finds the addresses of host:port. If that fails the ones from before stay.
func (a *Addresses) lookUp(ctx context.Context, address string) {
	if at, err := netip.ParseAddrPort(address); err == nil {
		a.add(address, at)
		return
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return
	}
	list := map[netip.AddrPort]struct{}{}
	for _, ip := range found {
		list[plain(netip.AddrPortFrom(ip, uint16(port)))] = struct{}{} //nolint:gosec // the resolver gives a port
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.put(address, list)
}

// plain is an address as frontends have it.
func plain(at netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
}

// add notes one more address of a host.
func (a *Addresses) add(address string, at netip.AddrPort) {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := maps.Clone(a.hosts[address])
	if list == nil {
		list = map[netip.AddrPort]struct{}{}
	}
	list[plain(at)] = struct{}{}
	a.put(address, list)
}

// put notes the addresses of a host, and tells of them if they are news.
func (a *reached) put(address string, list map[netip.AddrPort]struct{}) {
	if a.hosts == nil {
		a.hosts = map[string]map[netip.AddrPort]struct{}{}
	}
	a.hosts[address] = list
	a.report()
}

// Follow tells fn of all addresses, now and whenever they change. fn must not call back.
func (a *Addresses) Follow(fn func([]netip.AddrPort)) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tell, a.told = fn, nil
	a.report()
}

// report tells of changes.
func (a *reached) report() {
	all := map[netip.AddrPort]struct{}{}
	for _, list := range a.hosts {
		maps.Copy(all, list)
	}
	now := slices.SortedFunc(maps.Keys(all), netip.AddrPort.Compare)
	if a.tell != nil && !slices.Equal(now, a.told) {
		a.told = now
		a.tell(now)
	}
}
