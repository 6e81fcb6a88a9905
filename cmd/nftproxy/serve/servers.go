// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/proxier/bounded"
	"github.com/nftproxy/nftproxy/proxier/listen"
	"github.com/nftproxy/nftproxy/rules"
)

// Addresses are where a run listens, each an IP address and a port; empty: not at all.
type Addresses struct {
	Health, Metrics, Probes string
	HardFail                bool // one that cannot be had is an error
	// TakesOver says that a process that had them has just ended: they may be taken for a moment yet.
	TakesOver bool
}

// Without returns the addresses for a node that misses families of addresses: those that stand for
// all addresses, or for the loopback one, have the same in the other family.
func (a Addresses) Without(missing [2]bool) Addresses {
	for _, address := range []*string{&a.Health, &a.Metrics, &a.Probes} {
		at, err := netip.ParseAddrPort(*address)
		if err != nil || !missing[rules.FamilyOf(at.Addr().Unmap())] {
			continue
		}
		other := map[netip.Addr]netip.Addr{netip.IPv6Unspecified(): netip.IPv4Unspecified(), netip.IPv6Loopback(): netip.AddrFrom4([4]byte{127, 0, 0, 1})}
		if at.Addr().Is4() {
			other = map[netip.Addr]netip.Addr{netip.IPv4Unspecified(): netip.IPv6Unspecified(), netip.AddrFrom4([4]byte{127, 0, 0, 1}): netip.IPv6Loopback()}
		}
		if is, ok := other[at.Addr()]; ok {
			*address = netip.AddrPortFrom(is, at.Port()).String()
		}
	}
	return a
}

// Handlers answer at the addresses.
type Handlers struct{ Health, Metrics, Probes http.Handler }

// How many connections each address has at most; a new one takes the place of an old one.
const (
	healthConnections  = 128
	metricsConnections = 64
	probeConnections   = 64
)

// Servers are the HTTP servers of a run.
type Servers struct {
	log     klog.Logger
	list    []*bounded.Server
	waiting []server // for their addresses; the goroutine of again has it
	again   *listen.Again
	serving sync.WaitGroup
}

// server is one of them, and where it belongs.
type server struct {
	address, what string
	http          *bounded.Server
}

// Start serves health, metrics and what else kube-proxy shows, and probes. An address that cannot
// be had is asked for again: it may be kube-proxy's, which is about to go. With
// HardFail it is an error, and warn gets an Event's reason, as kube-proxy's, and its message.
func Start(log klog.Logger, at Addresses, h Handlers, warn func(reason, message string)) (*Servers, error) {
	all := &Servers{log: log}
	until := time.Now()
	if at.TakesOver {
		until = until.Add(takeOverTime)
	}
	for _, s := range []struct {
		address, what, flag, event string
		connections                int
		handler                    http.Handler
	}{
		{at.Health, "health", "--healthz-bind-address", "FailedToStartProxierHealthcheck", healthConnections, h.Health},
		{at.Metrics, "metrics", "--metrics-bind-address", "FailedToStartMetricServer", metricsConnections, h.Metrics},
		{at.Probes, "probes", "--probe-bind-address", "FailedToStartProbes", probeConnections, h.Probes},
	} {
		if s.address == "" {
			continue
		}
		one := server{s.address, s.what, bounded.NewPool(bounded.Share(s.connections)).Server(s.handler)}
		all.list = append(all.list, one.http)
		err := all.listenSoon(one, until)
		switch {
		case err != nil && at.HardFail:
			all.Close()
			warn(s.event, err.Error())
			return nil, fmt.Errorf("--bind-address-hard-fail: %w", err)
		case err != nil:
			log.Error(err, "Address not to be had: trying again until it is; "+s.flag+" chooses another", "for", s.what, "every", listen.Pause)
			all.waiting = append(all.waiting, one)
		}
	}
	if len(all.waiting) > 0 {
		all.again = listen.NewAgain(all.retry)
	}
	return all, nil
}

// How long an address is tried to be had where a process that had it has just ended, and how often.
const (
	takeOverTime  = time.Second
	takeOverPause = 5 * time.Millisecond
)

// listenSoon listens, and tries again until some time while the address is in use.
func (s *Servers) listenSoon(one server, until time.Time) error {
	for {
		err := s.listen(one)
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(until) {
			return err
		}
		time.Sleep(takeOverPause)
	}
}

// listen makes a server serve at its address.
func (s *Servers) listen(one server) error {
	l, err := net.Listen("tcp", one.address)
	if err != nil {
		return err
	}
	s.serving.Go(func() { _ = one.http.Serve(l) }) // ends with Close
	return nil
}

// retry tries again to listen where it failed.
func (s *Servers) retry() {
	waiting := s.waiting
	s.waiting = nil
	for _, one := range waiting {
		if s.listen(one) != nil {
			s.waiting = append(s.waiting, one)
			continue
		}
		s.log.Info("Address taken", "address", one.address, "for", one.what)
	}
}

// Close ends them. Their addresses are free then, for those that come next.
func (s *Servers) Close() {
	if s.again != nil {
		s.again.Close()
	}
	for _, one := range s.list {
		_ = one.Close()
	}
	s.serving.Wait()
}
