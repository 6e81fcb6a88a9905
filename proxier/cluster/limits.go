// SPDX-License-Identifier: Apache-2.0

package cluster

import "github.com/nftproxy/nftproxy/rules"

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

// endpointLimit is how many endpoints each port of a Service may have: see rules.ServicePort.
func endpointLimit(ports int) int {
	return min(rules.MaxEndpoints, max(1, maxEndpoints/max(1, ports)))
}

// Excess is how much of Services is left out because it asks for too much.
type Excess struct{ Ports, Frontends, Ranges, Sets int }

func (e *Excess) add(o Excess, times int) {
	e.Ports += times * o.Ports
	e.Frontends += times * o.Frontends
	e.Ranges += times * o.Ranges
	e.Sets += times * o.Sets
}
