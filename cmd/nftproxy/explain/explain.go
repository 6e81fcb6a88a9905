// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
)

// Explanation is what can be said about a target. Its texts are printable, and bounded.
type Explanation struct {
	Target string `json:"target"`
	// Node is the node whose view this is.
	Node  NodeView `json:"node"`
	Ports []Port   `json:"ports"`
	// Notes say what of the Service is not served, and why.
	Notes []string `json:"notes,omitempty"`
	// Kernel says whether the kernel holds just that.
	Kernel Kernel `json:"kernel"`
}

// NodeView is what matters of a node.
type NodeView struct {
	Name string `json:"name"`
	Zone string `json:"zone,omitempty"`
}

// Port is a service port in one family.
type Port struct {
	Service  string `json:"service,omitempty"` // namespace/name; empty: the kernel does not tell
	Port     string `json:"port,omitempty"`
	Number   uint16 `json:"number,omitempty"`
	Protocol string `json:"protocol"`
	Family   string `json:"family"`
	// InternalPolicy and ExternalPolicy are Cluster or Local.
	InternalPolicy string   `json:"internalTrafficPolicy,omitempty"`
	ExternalPolicy string   `json:"externalTrafficPolicy,omitempty"`
	Scheduler      string   `json:"scheduler,omitempty"`
	Affinity       uint32   `json:"affinitySeconds,omitempty"`
	SourceRanges   []string `json:"loadBalancerSourceRanges,omitempty"`
	// Lost are frontends that it does without, and why.
	Lost      []string       `json:"lost,omitempty"`
	Endpoints []Endpoint     `json:"endpoints"`
	Pinned    []Pin          `json:"pinned,omitempty"`
	Frontends []FrontendView `json:"frontends"`
	// MoreFrontends is how many are left out: each can be asked for by its address.
	MoreFrontends int `json:"moreFrontends,omitempty"`
}

// mostFrontends is how many frontends of a port are explained.
const mostFrontends = 200

// Endpoint is an endpoint, and whether it counts.
type Endpoint struct {
	Address string `json:"address"`
	Pod     string `json:"pod,omitempty"`
	Node    string `json:"node,omitempty"`
	Zone    string `json:"zone,omitempty"`
	Here    bool   `json:"onThisNode"`
	// Cluster and Local say that it gets connections under that policy.
	Cluster bool `json:"cluster"`
	Local   bool `json:"local"`
	// Why says why it gets none, or not under both policies.
	Why string `json:"why,omitempty"`
}

// Pin is a client that stays with its endpoint.
type Pin struct {
	Client   string `json:"client"`
	Endpoint string `json:"endpoint"`
	// Seconds is for how long.
	Seconds uint64 `json:"seconds"`
}

// FrontendView is where clients connect to, and what becomes of them.
type FrontendView struct {
	Kind    string `json:"kind"`
	Address string `json:"address"`
	// Problem says why nothing can be said of it.
	Problem string `json:"problem,omitempty"`
	Fates   []Fate `json:"fates"`

	at rules.Frontend
}

// What a client sees.
const (
	Answer    = "answer"    // of an endpoint
	Refused   = "refused"   // at once
	Timeout   = "timeout"   // it hears nothing
	Untouched = "untouched" // no rule of ours looks after this address
)

// Fate is what becomes of connections of one client.
type Fate struct {
	From    string `json:"from"`
	Outcome string `json:"outcome"`
	// Unheard says that clients are told of a refusal, but take no notice of it.
	Unheard bool     `json:"unheard,omitempty"`
	To      []To     `json:"to,omitempty"`
	Why     []string `json:"why,omitempty"`
	// Rules are those that do something with the packet, as CHAIN: RULE; of several
	// endpoints, on the way to the first.
	Rules []string `json:"rules,omitempty"`
}

// To is an endpoint that connections go to.
type To struct {
	Address     string `json:"address"`
	Masqueraded bool   `json:"masqueraded"`
}

// Kernel says how what the kernel holds compares.
type Kernel struct {
	// Holds is nil if it could not be looked at, and Problem says why.
	Holds       *bool              `json:"holds,omitempty"`
	Problem     string             `json:"problem,omitempty"`
	Differences []rules.Difference `json:"differences,omitempty"`
}

// World is what explanations are made from.
type World struct {
	proxier.Snapshot
	// Places says what is known of endpoints besides.
	Places map[Place][]Details
	// Notes say what of a Service, by its namespace/name, is not served.
	Notes map[string][]string
	// Have is what the kernel holds; nil: it could not be read, for the reason
	// that Problem gives.
	Have    *rules.State
	Problem string
	// FromKernel says that there is no other source than Have.
	FromKernel bool
	// Local lists the node's own addresses that are known.
	Local []netip.Addr
	// InterfaceTo returns the interface that leads to an address, and so the one that
	// its packets come from. Nil: it is not known.
	InterfaceTo func(netip.Addr) (string, error)
}

// Place is where endpoints of a service port are. Pods on the node's network share an address, and at one port of it there can
// be two: one that goes, and the next.
type Place struct {
	Port     rules.ServicePortName
	Protocol rules.Protocol
	At       netip.AddrPort
}

// Details is what an EndpointSlice says of an endpoint, with what tells it from others at its place. Make it with NewDetails.
type Details struct {
	Pod, Node, Zone             string
	Ready, Serving, Terminating bool
}

// details returns what is known of an endpoint besides.
func (w *World) details(p *proxier.Port, e *rules.Endpoint) Details {
	list := w.Places[Place{p.Name, p.Protocol, e.Addr}]
	for _, here := range []bool{true, false} { // with the node, and if that tells none, without
		for _, d := range list {
			if d.Ready == e.Ready && d.Serving == e.Serving && d.Terminating == e.Terminating && (!here || e.Local == (d.Node == w.Node.Name)) {
				return d
			}
		}
	}
	return Details{}
}

// NewDetails makes the names printable. The pod's is empty where the endpoint is none, and the API validates none of them.
func NewDetails(namespace, pod, node, zone string) Details {
	if pod != "" {
		pod = printable.Word(namespace) + "/" + printable.Word(pod)
	}
	return Details{Pod: pod, Node: printable.Word(node), Zone: printable.Word(zone)}
}

// Explain explains a target to some clients; to none: to those that there may be.
func (w *World) Explain(target Target, clients []Client) (*Explanation, error) {
	ports, err := w.find(target)
	if err != nil {
		return nil, err
	}
	out := &Explanation{Target: printable.Line(target.Text), Node: NodeView{printable.Word(w.Node.Name), printable.Word(w.Node.Zone)}}
	for _, p := range ports {
		if len(w.clientsOf(p, clients)) == 0 {
			continue
		}
		explained, err := w.port(p, target, clients)
		if err != nil {
			return nil, err
		}
		out.Ports = append(out.Ports, explained)
	}
	if len(out.Ports) == 0 {
		return nil, fmt.Errorf("no client has an address in the families of %s: choose another with --from", target.Text)
	}
	name := ports[0].Name
	out.Notes = notes(w.Notes[name.Namespace+"/"+name.Name])
	out.Kernel = w.kernel(name)
	return out, nil
}

// notes makes some of what is said of a Service printable, and counts the rest.
func notes(list []string) []string {
	const most = 20
	var out []string
	for _, note := range list[:min(most, len(list))] {
		out = append(out, printable.Line(note))
	}
	if more := len(list) - most; more > 0 {
		out = append(out, fmt.Sprintf("and %d more that is not served", more))
	}
	return out
}

// kernel compares what the kernel holds for a Service with what it should.
func (w *World) kernel(name rules.ServicePortName) Kernel {
	if w.Have == nil || w.FromKernel {
		return Kernel{Problem: printable.Line(w.Problem)}
	}
	var owned []rules.Owned
	for i := range w.Ports {
		if p := &w.Ports[i]; p.Name.Namespace == name.Namespace && p.Name.Name == name.Name {
			owned = append(owned, rules.Owned{Owner: p.Owner(), Objects: p.Objects})
		}
	}
	have, want := *w.Have, w.State
	list := slices.Concat(rules.Differences(have.Common(), want.Common()),
		rules.Differences(have.Select(name.Namespace, name.Name, owned), want.Select(name.Namespace, name.Name, owned)))
	equal := len(list) == 0
	return Kernel{Holds: &equal, Differences: list}
}

// port explains a service port.
func (w *World) port(p *proxier.Port, target Target, clients []Client) (Port, error) {
	out := Port{
		Service: p.Name.Service(), Port: printable.Word(p.Name.Port), Number: p.Port,
		Protocol: p.Protocol.String(), Family: p.Family.String(), Affinity: p.Affinity,
	}
	if p.Name.Name == "" {
		out.Service = ""
	}
	if served := len(w.frontends(p, Target{})) > 0; served && !w.FromKernel {
		out.InternalPolicy, out.Scheduler = policy(p.InternalLocal), p.Scheduler.String()
		if p.External() {
			out.ExternalPolicy = policy(p.ExternalLocal)
		}
	}
	if len(p.LoadBalancerIPs) > 0 {
		for _, r := range p.SourceRanges {
			out.SourceRanges = append(out.SourceRanges, r.String())
		}
	}
	for _, l := range p.Lost {
		out.Lost = append(out.Lost, l.Frontend+", "+l.Why)
	}
	if out.Endpoints = []Endpoint{}; !w.FromKernel {
		out.Endpoints = w.endpoints(p)
	}
	out.Pinned = w.pins(p, clients)
	frontends := w.frontends(p, target)
	if n := len(frontends) - mostFrontends; n > 0 {
		frontends, out.MoreFrontends = frontends[:mostFrontends], n
	}
	for _, f := range frontends {
		for _, c := range w.clientsOf(p, clients) {
			if f.Problem != "" {
				break
			}
			fate, err := w.fate(p, f, c)
			if err != nil {
				return Port{}, fmt.Errorf("follow a connection to %s %s: %w", f.Kind, f.Address, err)
			}
			f.Fates = append(f.Fates, fate)
		}
		out.Frontends = append(out.Frontends, f)
	}
	return out, nil
}

func policy(local bool) string {
	if local {
		return "Local"
	}
	return "Cluster"
}

// endpoints returns the endpoints of a port and why they count or not.
func (w *World) endpoints(p *proxier.Port) []Endpoint {
	out := []Endpoint{}
	for _, j := range rules.Judge(&p.ServicePort, p.Endpoints, &w.Node) {
		d := w.details(p, &j.Endpoint)
		out = append(out, Endpoint{Address: j.Addr.String(), Pod: d.Pod, Node: d.Node, Zone: d.Zone,
			Here: j.Endpoint.Local, Cluster: j.Cluster, Local: j.Local, Why: why(p, j)})
	}
	return out
}

// why puts the reasons of both policies together.
func why(p *proxier.Port, j rules.Judged) string {
	switch {
	case j.WhyNotCluster == "" && j.WhyNotLocal == "", j.WhyNotCluster == j.WhyNotLocal:
		return j.WhyNotCluster
	case !j.Cluster && !j.Local && j.WhyNotLocal == "":
		return j.WhyNotCluster
	case !j.Cluster && !j.Local && (j.WhyNotCluster == "" || !j.Endpoint.Ready):
		if j.WhyNotCluster != "" {
			return j.WhyNotCluster
		}
		return j.WhyNotLocal
	case j.Cluster:
		return fmt.Sprintf("%s, so not for %s Local", j.WhyNotLocal, localPolicies(p))
	case j.Local:
		return fmt.Sprintf("for %s Local only: else %s", localPolicies(p), j.WhyNotCluster)
	}
	return j.WhyNotCluster + "; " + j.WhyNotLocal
}

func localPolicies(p *proxier.Port) string {
	switch {
	case p.InternalLocal && p.ExternalLocal:
		return "internalTrafficPolicy and externalTrafficPolicy"
	case p.InternalLocal:
		return "internalTrafficPolicy"
	}
	return "externalTrafficPolicy"
}

// pins returns which of some clients the kernel remembers for a port; of none: all. Those of endpoints that are
// gone it remembers, too, but with no effect.
func (w *World) pins(p *proxier.Port, clients []Client) []Pin {
	var out []Pin
	if w.Have == nil || w.Have.Tables[p.Family] == nil {
		return nil
	}
	t := w.Have.Tables[p.Family]
	for _, m := range p.Objects.Affinity {
		for k, v := range t.Sets[m.Set] {
			asked := slices.ContainsFunc(clients, func(c Client) bool { return c.addr(p.Family) == k.Addr })
			if len(clients) > 0 && !asked || !t.Stays(m.Set, v.To) {
				continue
			}
			out = append(out, Pin{Client: k.Addr.String(), Endpoint: v.To.String(), Seconds: t.Affinity[m.Set].Clients[k.Addr].Expires / 1000})
		}
	}
	slices.SortFunc(out, func(a, b Pin) int {
		return netip.MustParseAddr(a.Client).Compare(netip.MustParseAddr(b.Client))
	})
	return out
}

// frontends returns where clients connect to a port; of an address as target, that
// alone.
func (w *World) frontends(p *proxier.Port, target Target) []FrontendView {
	var out []FrontendView
	seen := map[rules.Frontend]bool{}
	add := func(kind string, a netip.Addr, port uint16) {
		at := rules.Frontend{Addr: a, Protocol: p.Protocol, Port: port}
		if !a.IsValid() || target.isAddress() && target.Frontend != at || seen[at] {
			return
		}
		seen[at] = true
		out = append(out, FrontendView{Kind: kind, Address: at.At().String(), at: at, Fates: []Fate{}})
	}
	add("ClusterIP", p.ClusterIP, p.Port)
	if p.NodePort != 0 {
		addrs := w.nodePortAddrs(p.Family)
		for _, a := range addrs {
			add("NodePort", a, p.NodePort)
		}
		if len(addrs) == 0 && !target.isAddress() {
			out = append(out, FrontendView{Kind: "NodePort", Address: strconv.Itoa(int(p.NodePort)), Fates: []Fate{},
				Problem: "no address of the node that serves NodePorts is known: give --node-ip"})
		}
	}
	for _, a := range p.LoadBalancerIPs {
		add("load balancer", a, p.Port)
	}
	for _, a := range p.ExternalIPs {
		add("external IP", a, p.Port)
	}
	if len(out) == 0 && target.isAddress() { // a port that the Service does not have
		add("address", target.Frontend.Addr, target.Frontend.Port)
	}
	return out
}

// nodePortAddrs returns the node's addresses that serve NodePorts.
func (w *World) nodePortAddrs(f rules.Family) []netip.Addr {
	list := w.Node.NodePortIPs
	if w.Config.AllNodePortIPs {
		list = w.Local
	}
	var out []netip.Addr
	for _, a := range list {
		if rules.FamilyOf(a) == f && !a.IsLoopback() {
			out = append(out, a)
		}
	}
	return out
}
