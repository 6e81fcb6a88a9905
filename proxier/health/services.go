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
	"time"
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
}

// retryTime is how often ports that are taken are tried again.
const retryTime = 5 * time.Second

// Services answers at the healthCheckNodePort of each Service that has one. It
// listens in the network namespace of the threads that call it.
type Services struct {
	config Config
	stop   chan struct{}
	done   sync.WaitGroup

	mu       sync.Mutex
	addrs    []netip.Addr
	services map[Service]*service
}

// service is one Service's ports.
type service struct {
	port      uint16
	endpoints [2]int // on this node: IPv4, IPv6
	servers   map[netip.Addr]*http.Server
	failed    map[netip.Addr]bool // where it could not listen, and that was told
}

// New returns a Services that listens nowhere yet.
func New(c Config) *Services {
	if c.Healthy == nil {
		c.Healthy = func() bool { return true }
	}
	if c.OnError == nil {
		c.OnError = func(Service, netip.AddrPort, error) {}
	}
	h := &Services{config: c, stop: make(chan struct{}), services: map[Service]*service{}}
	h.done.Go(h.retry)
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
// ready on this node, of IPv4 and of IPv6.
func (h *Services) SetService(namespace, name string, port uint16, endpoints [2]int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := Service{namespace, name}
	s := h.services[key]
	if s != nil && s.port != port {
		s.close()
		s = nil
	}
	if s == nil {
		s = &service{port: port, servers: map[netip.Addr]*http.Server{}, failed: map[netip.Addr]bool{}}
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
		s.close()
		delete(h.services, key)
	}
}

// Close closes all ports.
func (h *Services) Close() {
	close(h.stop)
	h.done.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.services {
		s.close()
	}
	clear(h.services)
}

func (s *service) close() {
	for a, server := range s.servers {
		_ = server.Close()
		delete(s.servers, a)
	}
}

// retry tries again to listen where it failed.
func (h *Services) retry() {
	tick := time.NewTicker(retryTime)
	defer tick.Stop()
	for {
		select {
		case <-h.stop:
			return
		case <-tick.C:
		}
		h.mu.Lock()
		for name, s := range h.services {
			if len(s.failed) > 0 {
				h.listen(name, s)
			}
		}
		h.mu.Unlock()
	}
}

// listen makes a service's listeners those of the addresses. h.mu is held.
func (h *Services) listen(name Service, s *service) {
	for a, server := range s.servers {
		if !slices.Contains(h.addrs, a) {
			_ = server.Close()
			delete(s.servers, a)
		}
	}
	for a := range s.failed {
		if !slices.Contains(h.addrs, a) {
			delete(s.failed, a)
		}
	}
	for _, a := range h.addrs {
		if s.servers[a] != nil {
			continue
		}
		at := netip.AddrPortFrom(a, s.port)
		listener, err := (&net.ListenConfig{}).Listen(context.Background(), network(a), at.String())
		if err != nil {
			if !s.failed[a] {
				s.failed[a] = true
				h.config.OnError(name, at, err)
			}
			continue
		}
		delete(s.failed, a)
		server := &http.Server{Handler: h.handler(name, a), ReadHeaderTimeout: 10 * time.Second}
		s.servers[a] = server
		go func() { _ = server.Serve(listener) }() // ends with Close
	}
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

// handler answers for a Service at an address, with the endpoints of that family.
func (h *Services) handler(name Service, at netip.Addr) http.Handler {
	family := 0
	if at.Is6() {
		family = 1
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h.mu.Lock()
		a := answer{Service: name, ServiceProxyHealthy: h.config.Healthy()}
		if s := h.services[name]; s != nil {
			a.LocalEndpoints = s.endpoints[family]
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
