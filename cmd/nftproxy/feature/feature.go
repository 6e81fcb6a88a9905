// SPDX-License-Identifier: Apache-2.0

// Package feature tells whether a kernel has what the rules use: it programs a service of each kind into
// a table of its own, with the code that programs all of them.
package feature

import (
	"cmp"
	"iter"
	"net/netip"
	"strings"

	"github.com/nftproxy/nftproxy/rules"
)

// table is made and removed by Check.
const table = "nftproxy-check"

// Kernel is a rules/kernel.Kernel.
type Kernel interface {
	Apply(rules.Tx) error
	Remove(table string) (int, error)
}

// Feature is a kind of service, and whether the kernel takes it.
type Feature struct {
	Name string
	Uses string // what of nftables it is made of
	Err  error  // nil: the kernel takes it
}

// Check programs a service of each kind, one after the other, and removes them.
func Check(k Kernel) iter.Seq[Feature] {
	return func(yield func(Feature) bool) {
		defer func() { _, _ = k.Remove(table) }()
		for _, p := range probes() {
			_, _ = k.Remove(table)
			if !yield(Feature{p.name, p.uses, k.Apply(rules.Diff(rules.State{}, p.state()))}) {
				return
			}
		}
	}
}

// probe is a kind of service.
type probe struct {
	name, uses string
	config     rules.Config
	node       rules.Node
	ports      []rules.ServicePort
}

// state is what the kernel is to hold for it.
func (p *probe) state() rules.State {
	d := rules.NewDesired(p.config, p.node)
	var owned []rules.Owned
	for _, sp := range p.ports {
		owned = append(owned, rules.Owned{Owner: rules.Owner{ServicePortName: sp.Name, Family: sp.Family},
			Objects: rules.Build(sp, endpoints(sp.Family), p.config, p.node)})
	}
	d.Update(owned)
	return d.State()
}

func probes() []probe {
	config := rules.Config{Table: table}.WithDefaults()
	node := rules.Node{NodePortIPs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}}
	port := func(change func(*rules.ServicePort)) []rules.ServicePort {
		var out []rules.ServicePort
		for _, f := range rules.Families {
			sp := rules.ServicePort{Name: rules.ServicePortName{Namespace: "check", Name: "check"}, Family: f, Protocol: rules.TCP,
				ClusterIP: address(f, 1), Port: 80}
			change(&sp)
			out = append(out, sp)
		}
		return out
	}
	var out []probe
	for _, s := range rules.Schedulers() {
		uses := cmp.Or(s.Needs(), "numgen, maps of concatenations, masquerade, reject") // what all need
		out = append(out, probe{strings.ReplaceAll(s.String(), "-", " "), uses, config, node, port(func(sp *rules.ServicePort) { sp.Scheduler = s })})
	}
	return append(out, []probe{
		{"session affinity", "maps that packets fill, with a timeout", config, node, port(func(sp *rules.ServicePort) { sp.Affinity = 60 })},
		{"failover", "sets that packets fill, ct status, limit", config, node, port(func(sp *rules.ServicePort) {
			sp.Failover, sp.Ejection.Endpoints = true, []rules.Ejected{{Addr: netip.AddrPortFrom(address(sp.Family, 11), 80), Trial: true}}
		})},
		{"NodePorts", "fib", config, node, port(func(sp *rules.ServicePort) { sp.NodePort = 30000 })},
		{"source ranges", "interval sets", config, node, port(func(sp *rules.ServicePort) {
			sp.LoadBalancerIPs = []netip.Addr{address(sp.Family, 2)}
			sp.SourceRanges = []netip.Prefix{netip.PrefixFrom(address(sp.Family, 0), 24)}
		})},
	}...)
}

func address(f rules.Family, i byte) netip.Addr {
	if f == rules.IPv6 {
		return netip.AddrFrom16([16]byte{0xfd, 15: i})
	}
	return netip.AddrFrom4([4]byte{10, 0, 0, i})
}

func endpoints(f rules.Family) []rules.Endpoint {
	return []rules.Endpoint{{Addr: netip.AddrPortFrom(address(f, 11), 80), Ready: true}, {Addr: netip.AddrPortFrom(address(f, 12), 80), Ready: true}}
}
