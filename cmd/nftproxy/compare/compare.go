// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/foreign"
)

// Rules are those of kube-proxy.
type Rules interface {
	// Frontends returns what they serve or refuse; NodePorts at the unspecified address.
	Frontends() []foreign.Frontend
	// Connect returns what may become of a packet.
	Connect(foreign.Packet) ([]foreign.Way, error)
}

// Result is what differs. Its texts are printable.
type Result struct {
	// Mode is kube-proxy's.
	Mode string `json:"mode"`
	// Services and Frontends count what was compared.
	Services  int `json:"services"`
	Frontends int `json:"frontends"`
	// Differing counts the frontends that would change.
	Differing   int          `json:"differing"`
	Differences []Difference `json:"differences"`
	// Notes say what was not compared, and why.
	Notes []string `json:"notes,omitempty"`
}

// Difference is what differs at a frontend for some clients.
type Difference struct {
	// Service is namespace/name, and the port's name after a colon; empty: nobody tells.
	Service  string `json:"service,omitempty"`
	Kind     string `json:"kind"`
	Frontend string `json:"frontend"`
	// From are the clients for which it is the same difference.
	From      []string `json:"from"`
	KubeProxy Answer   `json:"kubeProxy"`
	Nftproxy  Answer   `json:"nftproxy"`
}

// Answer is what becomes of connections.
type Answer struct {
	Outcome explain.Outcome `json:"outcome"`
	// To are the endpoints, sorted, ADDRESS:PORT, with ' masqueraded' after it where the endpoint sees the node's address.
	To []string `json:"to,omitempty"`
	// Affinity is for how many seconds a client stays with its endpoint.
	Affinity uint32 `json:"affinitySeconds,omitempty"`
}

func (a *Answer) equal(b *Answer) bool {
	return a.Outcome == b.Outcome && a.Affinity == b.Affinity && slices.Equal(a.To, b.To)
}

// place is a frontend with what is known of it.
type place struct {
	rules.Frontend
	kind, service string
	port          *proxier.Port // ours; nil: we do not serve it
}

// Of compares all frontends that either has. loopback says that nftproxy itself forwards NodePorts at 127.0.0.1, by no rule.
func Of(w *explain.World, theirs Rules, mode string, loopback bool) (*Result, error) {
	c := comparison{world: w, theirs: theirs, loopback: loopback}
	out := &Result{Mode: mode, Differences: []Difference{}}
	if _, known := w.PodClient(); !known {
		out.Notes = append(out.Notes, "connections from pods were not compared, as nothing tells where pods are: give --cluster-cidr or another --detect-local-mode")
	}
	services := map[string]bool{}
	for _, p := range c.places() {
		services[nameOf(p.service)] = true
		list, err := c.differences(&p)
		if err != nil {
			return nil, err
		}
		if out.Frontends++; len(list) > 0 {
			out.Differing++
			out.Differences = append(out.Differences, list...)
		}
	}
	if slices.ContainsFunc(out.Differences, func(d Difference) bool { return strings.HasPrefix(d.Frontend, "127.") }) {
		out.Notes = append(out.Notes, "kube-proxy serves NodePorts at 127.0.0.1; nftproxy does so if --nodeport-addresses has localhost")
	}
	delete(services, "")
	out.Services = len(services)
	return out, nil
}

// nameOf returns namespace/name of a service port.
func nameOf(service string) string {
	name, _, _ := strings.Cut(service, ":")
	return name
}

type comparison struct {
	world    *explain.World
	theirs   Rules
	loopback bool
}

// places returns all frontends, by Service, kind and address. Those of NodePorts are at each address of the node.
func (c *comparison) places() []place {
	found := map[rules.Frontend]place{}
	nodePorts := map[rules.Frontend]place{}
	for i := range c.world.Ports {
		p := &c.world.Ports[i]
		name := p.Name.Service()
		if p.Name.Port != "" {
			name += ":" + printable.Word(p.Name.Port)
		}
		for _, f := range explain.FrontendsAt(c.world, p) {
			if found[f.Frontend] = (place{f.Frontend, f.Kind, name, p}); f.Kind == "NodePort" {
				nodePorts[f.NodePort()] = found[f.Frontend]
			}
		}
		if p.NodePort != 0 {
			f := rules.NodePort(p.Family, p.Protocol, p.NodePort)
			nodePorts[f] = place{f, "NodePort", name, nil}
		}
	}
	for _, f := range c.theirs.Frontends() {
		one := place{f.Frontend, "address", printable.Word(f.Service), nil}
		if f.IsNodePort() {
			one.kind = "NodePort"
			if _, known := nodePorts[f.Frontend]; !known {
				nodePorts[f.Frontend] = one
			}
		} else if _, known := found[f.Frontend]; !known {
			found[f.Frontend] = one
		}
	}
	for f, one := range nodePorts {
		for _, a := range c.nodeAddresses(rules.FamilyOf(f.Addr)) {
			one.Frontend = rules.Frontend{Addr: a, Protocol: f.Protocol, Port: f.Port}
			if _, known := found[one.Frontend]; !known {
				found[one.Frontend] = place{one.Frontend, one.kind, one.service, nil}
			}
		}
	}
	var out []place
	for _, p := range found {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b place) int {
		return cmp.Or(strings.Compare(a.service, b.service), strings.Compare(a.kind, b.kind), a.Compare(b.Frontend))
	})
	return out
}

// nodeAddresses returns those that may have NodePorts: not those that are of one link alone.
func (c *comparison) nodeAddresses(f rules.Family) []netip.Addr {
	out := []netip.Addr{}
	if f == rules.IPv4 {
		out = append(out, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	for _, a := range c.world.Local {
		if rules.FamilyOf(a) == f && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// clients returns those that can connect to a place.
func (c *comparison) clients(p *place) []explain.Client {
	if p.Addr.IsLoopback() {
		node := c.world.NodeClient()
		node.Addrs[rules.IPv4] = p.Addr
		return []explain.Client{node}
	}
	port := p.port
	if port == nil {
		port = &proxier.Port{ServicePort: rules.ServicePort{Family: rules.FamilyOf(p.Addr)}}
	}
	list := explain.ClientsOf(c.world, port)
	for _, e := range port.Endpoints {
		if e.Local && e.Ready && !slices.Contains(c.world.Local, e.Addr.Addr()) {
			own := c.world.ClientAt(e.Addr.Addr())
			own.Name = "its endpoint " + own.Name
			return append(list, own)
		}
	}
	return list
}

// differences compares what becomes of connections to a place.
func (c *comparison) differences(p *place) ([]Difference, error) {
	var out []Difference
	for _, client := range c.clients(p) {
		theirs, err := c.byTheirs(p, client)
		if err != nil {
			return nil, fmt.Errorf("kube-proxy's rules: %w", err)
		}
		ours, err := c.byOurs(p, client)
		if err != nil {
			return nil, fmt.Errorf("nftproxy's rules: %w", err)
		}
		if theirs.equal(ours) || p.Addr.IsLoopback() && c.alikeOnLoopback(theirs) {
			continue
		}
		if n := len(out); n > 0 && out[n-1].KubeProxy.equal(theirs) && out[n-1].Nftproxy.equal(ours) {
			out[n-1].From = append(out[n-1].From, printable.Line(client.Name))
			continue
		}
		out = append(out, Difference{Service: p.service, Kind: p.kind, Frontend: fmt.Sprintf("%s/%s", p.At(), p.Protocol),
			From: []string{printable.Line(client.Name)}, KubeProxy: *theirs, Nftproxy: *ours})
	}
	return out, nil
}

// alikeOnLoopback says whether it is the same at 127.0.0.1, where no rule of nftproxy serves NodePorts: it accepts connections itself if
// it is to serve them there, and where nobody listens they are refused.
func (c *comparison) alikeOnLoopback(theirs *Answer) bool {
	return theirs.Outcome == explain.Refused || theirs.Outcome == explain.Answer && c.loopback
}

// clientPort is the port of clients: any will do.
const clientPort = 40000

func (c *comparison) byTheirs(p *place, client explain.Client) (*Answer, error) {
	ways, err := c.theirs.Connect(foreign.Packet{Protocol: p.Protocol, Dst: p.At(), Interface: client.Interface,
		Src:   netip.AddrPortFrom(client.Addrs[rules.FamilyOf(p.Addr)], clientPort),
		Local: func(a netip.Addr) bool { return a.IsLoopback() || slices.Contains(c.world.Local, a) }})
	if err != nil {
		return nil, err
	}
	out := &Answer{Outcome: explain.Untouched}
	for _, w := range ways {
		switch {
		case w.Rejected:
			out.Outcome = explain.Refused
		case w.Dropped:
			out.Outcome = explain.Timeout
		case w.Translated:
			out.Outcome, out.Affinity = explain.Answer, max(out.Affinity, w.Affinity)
			out.add(w.To.String(), w.Masqueraded)
		}
	}
	out.sort()
	return out, nil
}

func (c *comparison) byOurs(p *place, client explain.Client) (*Answer, error) {
	view, err := explain.Connect(c.world, p.port, p.Frontend, client)
	if err != nil {
		return nil, err
	}
	out := &Answer{Outcome: view.Outcome}
	for _, to := range view.To {
		out.add(to.Address, to.Masqueraded)
	}
	if p.port != nil && out.Outcome == explain.Answer {
		out.Affinity = p.port.Affinity
	}
	out.sort()
	return out, nil
}

// masqueraded is after an endpoint that sees the node's address.
const masqueraded = " masqueraded"

func (a *Answer) add(to string, hidden bool) {
	if hidden {
		to += masqueraded
	}
	a.To = append(a.To, to)
}

func (a *Answer) sort() {
	slices.Sort(a.To)
	a.To = slices.Compact(a.To)
}
