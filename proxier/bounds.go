// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/nftproxy/nftproxy/rules"
)

// What one Service may ask for. The API bounds none of it but by the size of an object (1.5 MiB), which has room
// for 100,000 externalIPs, and each port of the Service is served at each of them. What is beyond is left out,
// the same on every node, as long as it is asked for: ClusterIPs and NodePorts stay, and other Services.
const (
	// maxPorts is how many ports a Service may have; the first ones stay. No EndpointSlice can have more.
	maxPorts = 20000
	// maxOutside is how many frontends a Service may have in each family besides its ClusterIP and NodePorts: ports
	// times addresses. Load balancers' addresses stay before externalIPs, in the object's order. It has room for 6
	// ports at an externalIP for each of 5,000 nodes, and for a load balancer's address with 20,000 ports.
	maxOutside = 1 << 15
	// maxRanges is how many elements the loadBalancerSourceRanges of a Service may take in each family: ports times ranges.
	// Those of ranges beyond are not let in.
	maxRanges = 1 << 16
	// maxEndpoints is how many elements the endpoints of a Service may take in each family and traffic policy: ports times
	// endpoints, as many as whole clusters have. One port alone has room for rules.MaxEndpoints.
	maxEndpoints = 1 << 18
	// maxSets is how many ports of a Service may have sets of their own, for session affinity or loadBalancerSourceRanges: the
	// kernel finds a set by walking all of a table's. Ports beyond are served without affinity, or not at load balancers' addresses.
	maxSets = 1 << 12
)

// maxFaults is how many faults of one object are told of. It may have as many as its writer likes.
const maxFaults = 8

// endpointLimit is how many endpoints each port of a Service may have: see rules.ServicePort.
func endpointLimit(ports int) int {
	return min(rules.MaxEndpoints, max(1, maxEndpoints/max(1, ports)))
}

// excess is how much of a Service is left out because it asks for too much.
type excess struct{ ports, frontends, ranges, sets int }

func (e *excess) add(o excess, times int) {
	e.ports += times * o.ports
	e.frontends += times * o.frontends
	e.ranges += times * o.ranges
	e.sets += times * o.sets
}

// bound leaves out what is beyond the bounds, and says so once for each kind.
func (s *service) bound(fault func(string, ...any)) {
	if n := len(s.ports) - maxSets; n > 0 && (s.affinity > 0 || len(s.sourceRanges[0])+len(s.sourceRanges[1]) > 0) {
		for i := range s.ports[maxSets:] {
			s.ports[maxSets+i].plain = true
		}
		s.over.sets = n
		fault("it has %d ports with session affinity or loadBalancerSourceRanges, more than %d: the others, by their names, are served "+
			"without affinity, and where there are ranges not at load balancer addresses", len(s.ports), maxSets)
	}
	perPort := maxOutside / max(1, len(s.ports))
	perPortRanges := maxRanges / max(1, len(s.ports))
	for _, f := range rules.Families {
		lbs, externals := s.loadBalancers[f], s.externalIPs[f]
		if n := len(lbs) + len(externals); n > perPort {
			s.loadBalancers[f] = slices.Clone(lbs[:min(len(lbs), perPort)])
			s.externalIPs[f] = slices.Clone(externals[:perPort-len(s.loadBalancers[f])])
			s.over.frontends += (n - perPort) * len(s.ports)
			fault("%s: it has %d addresses outside the cluster and %d ports, together more than %d: the first %d addresses are served",
				familyNames[f], n, len(s.ports), maxOutside, perPort)
		}
		if n := len(s.sourceRanges[f]); n > perPortRanges {
			s.sourceRanges[f] = slices.Clone(s.sourceRanges[f][:perPortRanges])
			s.over.ranges += (n - perPortRanges) * len(s.ports)
			fault("%s: it has %d loadBalancerSourceRanges and %d ports, together more than %d: the first %d ranges are let in",
				familyNames[f], n, len(s.ports), maxRanges, perPortRanges)
		}
	}
}

var familyNames = [...]string{rules.IPv4: "IPv4", rules.IPv6: "IPv6"}

// faultList gathers what is wrong with an object, up to a bound.
type faultList struct {
	list []error
	more int
}

func (l *faultList) add(err error) {
	if len(l.list) == maxFaults {
		l.more++
		return
	}
	l.list = append(l.list, err)
}

// errs returns them, and how many more there are.
func (l *faultList) errs(object string) []error {
	if l.more == 0 {
		return l.list
	}
	return append(l.list, fmt.Errorf("%s: and %d more parts of it cannot be used", object, l.more))
}

// addrSet is the addresses of a Service, or of an EndpointSlice, that were seen.
type addrSet map[netip.Addr]struct{}

// put adds an address, and says whether it is new.
func (s addrSet) put(a netip.Addr) bool {
	if _, ok := s[a]; ok {
		return false
	}
	s[a] = struct{}{}
	return true
}

// leftOut is how many endpoints owners do without because there are too many.
type leftOut struct {
	of        map[rules.Owner]int
	services  map[objectName]int // how many such owners each has
	endpoints int                // of all
}

func newLeftOut() leftOut {
	return leftOut{of: map[rules.Owner]int{}, services: map[objectName]int{}}
}

// set notes how many endpoints an owner does without, and says whether it is the first one of its Service.
func (l *leftOut) set(o rules.Owner, n int) (first bool) {
	was, service := l.of[o], serviceOf(o)
	l.endpoints += n - was
	switch {
	case n == 0 && was > 0:
		delete(l.of, o)
		if l.services[service]--; l.services[service] == 0 {
			delete(l.services, service)
		}
	case n > 0:
		if l.of[o] = n; was == 0 {
			l.services[service]++
		}
		first = was == 0 && l.services[service] == 1
	}
	return first
}

// reportLeftOut tells, once, that a Service has more endpoints than it can. p.mu is held.
func (p *Proxier) reportLeftOut(o rules.Owner, n, limit int) {
	if !p.leftOut.set(o, n) {
		return
	}
	text := fmt.Sprintf("service %s: a port has %d endpoints more than %d, which this Service can have for each port: they get no connections",
		serviceOf(o), n, limit)
	p.log.Info("Skipped", "reason", text)
	p.warnService(serviceOf(o), ReasonInvalid, text)
}
