// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"

	"github.com/nftproxy/nftproxy/proxier/bounded"
	"github.com/nftproxy/nftproxy/proxier/listen"
)

// Service names a Service.
type Service struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// Config says what Services needs.
type Config struct {
	// Healthy says whether nftproxy itself works. Nil: it does.
	Healthy func() bool
	// OnError is told, once, that a port cannot be listened on; it is tried again
	// until it can. It may be called with locks held: it must not call back.
	OnError func(s Service, at netip.AddrPort, err error)
	// Pool bounds the connections of all ports together. Default: 256.
	Pool *bounded.Pool
	// MaxListeners is the greatest number of sockets that listen. Default: without limit.
	MaxListeners int
}

// defaultConnections is how many connections all ports together have at most.
const defaultConnections = 256

// Services answers at the healthCheckNodePort of each Service that has one. It
// listens in the network namespace of the threads that call it.
type Services struct {
	again *listen.Again

	mu sync.Mutex // guards what follows
	ports
}

// ports are those of all Services. They are for one goroutine at a time.
type ports struct {
	config    Config                     // nobody changes it
	answers   func(Service) http.Handler // who asks for a Service
	addrs     []netip.Addr
	services  map[Service]*service
	listeners int
}

// service is one Service's ports.
type service struct {
	port      uint16
	endpoints [2]int // on this node: IPv4, IPv6
	servers   map[netip.Addr]*server
	failed    listen.Faults[netip.Addr]
}

// server answers at one address.
type server struct {
	*bounded.Server
	listener net.Listener
}

// New returns a Services that listens nowhere yet.
func New(c Config) *Services {
	if c.Healthy == nil {
		c.Healthy = func() bool { return true }
	}
	if c.OnError == nil {
		c.OnError = func(Service, netip.AddrPort, error) {}
	}
	if c.Pool == nil {
		c.Pool = bounded.NewPool(defaultConnections)
	}
	h := &Services{ports: ports{config: c, services: map[Service]*service{}}}
	h.answers = h.handler
	h.again = listen.NewAgain(h.retry)
	return h
}

// SetAddresses says on which addresses all ports are; unspecified ones stand for
// all of their family.
func (h *Services) SetAddresses(addrs []netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.addrs = slices.Clone(addrs)
	for name, s := range h.services {
		h.listen(name, s)
	}
}

// SetService says at which port a Service is asked for, and how many endpoints are
// ready on this node, of IPv4 and of IPv6. Whoever asks gets the same answer over either family: a load
// balancer may ask over one for a Service of the other. A pod with addresses of both counts once, so of a
// Service of both families the family with more endpoints counts.
func (h *Services) SetService(namespace, name string, port uint16, endpoints [2]int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := Service{namespace, name}
	s := h.services[key]
	if s != nil && s.port != port {
		h.close(s)
		s = nil
	}
	if s == nil {
		s = &service{port: port, servers: map[netip.Addr]*server{}}
		h.services[key] = s
	}
	s.endpoints = endpoints
	h.listen(key, s)
}

// DeleteService closes the port of a Service, if it has one.
func (h *Services) DeleteService(namespace, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := Service{namespace, name}
	if s := h.services[key]; s != nil {
		delete(h.services, key)
		h.close(s)
	}
}

// Close closes all ports.
func (h *Services) Close() {
	h.again.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	closing := h.services
	h.services = map[Service]*service{}
	for _, s := range closing {
		h.close(s)
	}
}

// close closes a service's port, and gives it to another one that waits for it.
func (p *ports) close(s *service) {
	for a := range s.servers {
		p.stopListening(s, a)
	}
	for name, other := range p.services {
		if other != s && other.failed.Any() && other.port == s.port {
			p.listen(name, other)
		}
	}
}

// stopListening frees a service's port at an address.
func (p *ports) stopListening(s *service, a netip.Addr) {
	_ = s.servers[a].listener.Close() // the server may not have begun with it
	_ = s.servers[a].Close()
	delete(s.servers, a)
	p.listeners--
}

// retry tries again to listen where it failed.
func (h *Services) retry() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, s := range h.services {
		if s.failed.Any() {
			h.listen(name, s)
		}
	}
}

// listen makes a service's listeners those of the addresses.
func (p *ports) listen(name Service, s *service) {
	for a := range s.servers {
		if !slices.Contains(p.addrs, a) {
			p.stopListening(s, a)
		}
	}
	s.failed.ForgetIf(func(a netip.Addr) bool { return !slices.Contains(p.addrs, a) })
	for _, a := range p.addrs {
		if s.servers[a] != nil {
			continue
		}
		at := netip.AddrPortFrom(a, s.port)
		listener, err := p.listenAt(a, at)
		if s.failed.Note(a, err) {
			p.config.OnError(name, at, err)
		}
		if err != nil {
			continue
		}
		p.listeners++
		server := &server{p.config.Pool.Server(p.answers(name)), listener}
		s.servers[a] = server
		go func() { _ = server.Serve(listener) }() // ends with Close
	}
}

// listenAt opens a port, unless too many are open.
func (p *ports) listenAt(a netip.Addr, at netip.AddrPort) (net.Listener, error) {
	if most := p.config.MaxListeners; most > 0 && p.listeners >= most {
		return nil, fmt.Errorf("listen at %s: %d health checks are listened for already: raise the limit of open files (RLIMIT_NOFILE)", at, most)
	}
	return (&net.ListenConfig{}).Listen(context.Background(), network(a), at.String())
}

func network(a netip.Addr) string {
	if a.Is4() {
		return "tcp4"
	}
	return "tcp6"
}

// answer is the body of an answer.
type answer struct {
	Service             Service `json:"service"`
	LocalEndpoints      int     `json:"localEndpoints"`
	ServiceProxyHealthy bool    `json:"serviceProxyHealthy"`
}

// handler answers for a Service.
func (h *Services) handler(name Service) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h.mu.Lock()
		a := answer{Service: name, ServiceProxyHealthy: h.config.Healthy()}
		if s := h.services[name]; s != nil {
			a.LocalEndpoints = max(s.endpoints[0], s.endpoints[1])
		}
		h.mu.Unlock()
		w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(a.LocalEndpoints))
		body, err := json.MarshalIndent(a, "", "\t")
		reply(w, a.LocalEndpoints > 0 && a.ServiceProxyHealthy, body, err)
	})
}

// reply writes an answer: 200 if all is well, else 503.
func reply(w http.ResponseWriter, well bool, body []byte, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !well {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = fmt.Fprintf(w, "%s", body) // the client may have gone
}
