// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// noEndpoint says why connections to a port are refused. known has the EndpointSlices, as World has them.
func noEndpoint(known map[string][]cluster.SliceLook, p *proxier.Port) reason.Given {
	switch n := len(p.Endpoints); {
	case n > 1:
		return reason.EndpointsUnusable.With(n)
	case n == 1:
		return reason.OnlyEndpointUnusable.With()
	case known == nil:
		return reason.NoEndpoint.With()
	}
	all := known[p.Name.Service()]
	if len(all) == 0 {
		return reason.NoSlice.With()
	}
	endpoints, ofFamily := 0, false
	var ports []string
	for _, s := range all {
		if s.Family != p.Family {
			continue
		}
		ofFamily = true
		if s.Endpoints == 0 {
			continue
		}
		endpoints += s.Endpoints
		for _, port := range s.Ports {
			text := fmt.Sprintf("%s (%d/%s)", portName(port.Name), port.Port, port.Protocol)
			if !slices.Contains(ports, text) {
				ports = append(ports, text)
			}
		}
	}
	switch {
	case !ofFamily:
		return reason.NoSliceFamily.With(map[rules.Family]string{rules.IPv4: "IPv4", rules.IPv6: "IPv6"}[p.Family])
	case endpoints == 0:
		return reason.EmptySlices.With()
	case len(ports) == 0:
		return reason.SliceNoPort.With()
	}
	slices.Sort(ports)
	const most = 5
	if more := len(ports) - most; more > 0 {
		ports = append(ports[:most], fmt.Sprintf("%d more", more))
	}
	return reason.OtherPorts.With(strings.Join(ports, ", "), fmt.Sprintf("%s (%s)", portName(p.Name.Port), p.Protocol))
}

// portName names a port that may have no name.
func portName(name string) string { return cmp.Or(printable.Word(name), "without a name") }
