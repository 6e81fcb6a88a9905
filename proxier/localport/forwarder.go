// SPDX-License-Identifier: Apache-2.0

package localport

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/proxier/bounded"
	"github.com/nftproxy/nftproxy/proxier/listen"
)

// Port is where clients connect to.
type Port struct {
	Network string // tcp or udp
	Addr    netip.AddrPort
}

// String returns address, port and protocol.
func (p Port) String() string { return fmt.Sprintf("%s/%s", p.Addr, p.Network) }

// Forwarder forwards a changing set of ports. Its methods may be called from several
// goroutines.
type Forwarder struct {
	again *listen.Again
	stop  chan struct{}
	done  sync.WaitGroup

	mu sync.Mutex // guards what follows
	forwards
}

// forwards are the ports of a Forwarder. They are for one goroutine at a time.
type forwards struct {
	shared    *shared
	ports     map[Port]*forward
	failed    listen.Faults[Port]
	listening int // ports
	most      int // that may be
}

// shared is what all ports have together, and together no more of than a bound.
type shared struct {
	connections *bounded.Pool
	flows       flows
	buffers     datagramBuffers
}

// forward is a port and where it leads.
type forward struct {
	balancer balancer
	server   server // nil while it cannot listen
}

// server listens at a port.
type server interface {
	// forget is called when endpoints have changed.
	forget()
	// stopListening stops taking new clients; end ends what is left of old ones.
	stopListening()
	end()
	// wait returns when nothing is left of old clients.
	wait()
}

// New returns a Forwarder without ports.
func New() *Forwarder {
	sh := &shared{connections: bounded.NewPool(bounded.Share(maxConnections)), flows: flows{most: bounded.Share(maxFlows)}, buffers: newDatagramBuffers()}
	f := &Forwarder{stop: make(chan struct{}), forwards: forwards{shared: sh, ports: map[Port]*forward{}, most: bounded.Descriptors() / 4}}
	f.again = listen.NewAgain(f.retry)
	return f
}

// Set forwards a port to endpoints. With an affinity above 0 clients stay with one
// endpoint for that long after the last connection. Without endpoints nobody listens.
// An error says, once, that the port cannot be listened on; that is tried again until
// it can.
func (f *Forwarder) Set(p Port, endpoints []netip.AddrPort, affinity time.Duration) error {
	if p.Network != "tcp" && p.Network != "udp" {
		return fmt.Errorf("forward %s: only tcp and udp can be forwarded", p)
	}
	if len(endpoints) == 0 {
		f.Delete(p)
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	fw := f.ports[p]
	if fw == nil {
		fw = &forward{}
		f.ports[p] = fw
	}
	fw.balancer.set(endpoints, affinity)
	if fw.server != nil {
		fw.server.forget()
	}
	return f.listen(p, fw)
}

// Delete stops listening at a port; one that is not forwarded is fine.
func (f *Forwarder) Delete(p Port) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fw := f.ports[p]
	if fw == nil {
		return
	}
	delete(f.ports, p)
	f.failed.Forget(p)
	fw.balancer.set(nil, 0)
	if fw.server != nil {
		fw.server.forget()
		fw.server.stopListening()
		f.listening--
		f.linger(fw.server)
	}
}

// linger lets open connections go on until Close.
func (f *Forwarder) linger(s server) {
	ended := make(chan struct{})
	f.done.Go(func() {
		s.wait()
		close(ended)
	})
	f.done.Go(func() {
		select {
		case <-f.stop:
			s.end()
		case <-ended:
		}
	})
}

// Close stops all ports and ends all connections.
func (f *Forwarder) Close() {
	f.again.Close()
	close(f.stop)
	f.mu.Lock()
	for p, fw := range f.ports {
		if fw.server != nil {
			fw.server.stopListening()
			fw.server.end()
		}
		delete(f.ports, p)
	}
	f.mu.Unlock()
	f.done.Wait()
}

// retry tries again to listen where it failed.
func (f *Forwarder) retry() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for p, fw := range f.ports {
		_ = f.listen(p, fw) // told already
	}
}

// listen listens at a port unless it does already. Its error comes once.
func (f *forwards) listen(p Port, fw *forward) error {
	if fw.server != nil {
		return nil
	}
	s, err := f.open(p, &fw.balancer)
	news := f.failed.Note(p, err)
	if err == nil {
		fw.server = s
		f.listening++
		return nil
	}
	if !news {
		return nil
	}
	return fmt.Errorf("forward %s: %w", p, err)
}

// open listens at a port, unless too many are listened at: others need descriptors, too.
func (f *forwards) open(p Port, b *balancer) (s server, err error) {
	if f.listening >= f.most {
		return nil, fmt.Errorf("%d ports on loopback addresses are listened at already: raise the limit of open files (RLIMIT_NOFILE)", f.listening)
	}
	if p.Network == "tcp" {
		s, err = newTCPServer(p.Addr, b, f.shared.connections)
	} else {
		s, err = newUDPServer(p.Addr, b, f.shared)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: trying again until the port is free", err)
	}
	return s, nil
}

// balancer chooses endpoints.
type balancer struct {
	mu        sync.Mutex
	endpoints []netip.AddrPort
	next      int
	affinity  time.Duration
	pinned    netip.AddrPort
	pinnedAt  time.Time // when it was used last
}

// errNoEndpoint says that there is nobody to forward to.
var errNoEndpoint = errors.New("no endpoint")

func (b *balancer) set(endpoints []netip.AddrPort, affinity time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(endpoints, b.endpoints) {
		b.endpoints, b.next = slices.Clone(endpoints), 0
	}
	if affinity != b.affinity || !slices.Contains(endpoints, b.pinned) {
		b.affinity, b.pinned = affinity, netip.AddrPort{}
	}
}

// has says whether an endpoint is among those in use.
func (b *balancer) has(e netip.AddrPort) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Contains(b.endpoints, e)
}

// order returns the endpoints in the order in which a new connection tries them: the
// one whose turn it is first.
func (b *balancer) order() []netip.AddrPort {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.endpoints) == 0 {
		return nil
	}
	now := time.Now()
	first := b.next
	if b.affinity > 0 && b.pinned.IsValid() && now.Sub(b.pinnedAt) <= b.affinity {
		first = slices.Index(b.endpoints, b.pinned)
	} else {
		b.next = (b.next + 1) % len(b.endpoints)
	}
	list := slices.Concat(b.endpoints[first:], b.endpoints[:first])
	b.pinned, b.pinnedAt = list[0], now
	return list
}

// pin notes that a client got another endpoint than the first of its order.
func (b *balancer) pin(e netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Contains(b.endpoints, e) {
		b.pinned = e
	}
}
