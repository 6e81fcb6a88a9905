// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// kind is a Service's type.
type kind uint8

const (
	isClusterIP kind = iota
	isNodePort
	isLoadBalancer
)

// String returns the API's name.
func (k kind) String() string {
	return string([...]corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer}[k])
}

// told is what those want to know who ask for a Service.
type told struct {
	kind  kind
	notes []string // what of it is not served, and why
	// labels are those of the Service, as KEY=VALUE,...; none if they are longer than mostLabels.
	labels string
}

// mostLabels is how many bytes of a Service's labels are kept.
const mostLabels = 4 << 10

// mostNotes bounds what is kept of what a Service asks for in vain.
const mostNotes = 20

// tell keeps it.
func (s *service) tell(obj *corev1.Service, errs []error) {
	switch obj.Spec.Type {
	case corev1.ServiceTypeNodePort:
		s.told.kind = isNodePort
	case corev1.ServiceTypeLoadBalancer:
		s.told.kind = isLoadBalancer
	}
	if text := labels.Set(obj.Labels).String(); len(text) <= mostLabels {
		s.told.labels = text
	}
	s.told.notes = LoadBalancerNotes(obj)
	if len(errs) > 0 { // as an Event has them
		text := strings.ReplaceAll(errors.Join(errs...).Error(), "\n", "; ")
		s.told.notes = append(s.told.notes, printable.Line(strings.TrimPrefix(text, "service "+obj.Namespace+"/"+obj.Name+": ")))
	}
	s.told.notes = s.told.notes[:min(len(s.told.notes), mostNotes)]
}

// LoadBalancerNotes says which of a Service's load balancers are not served.
func LoadBalancerNotes(svc *corev1.Service) []string {
	var out []string
	for _, in := range svc.Status.LoadBalancer.Ingress {
		switch {
		case in.IP == "":
			out = append(out, reason.LoadBalancerName.Text(printable.Word(in.Hostname)))
		case ptr.Deref(in.IPMode, corev1.LoadBalancerIPModeVIP) != corev1.LoadBalancerIPModeVIP:
			out = append(out, reason.LoadBalancerProxy.Text(printable.Word(in.IP), printable.Word(string(*in.IPMode))))
		}
	}
	return out
}

// Unaddressed says why a Service has no address of its own; 0: it has one.
func Unaddressed(svc *corev1.Service) reason.Code {
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		return reason.ExternalName
	case svc.Spec.ClusterIP == corev1.ClusterIPNone:
		return reason.Headless
	case svc.Spec.ClusterIP == "":
		return reason.NoClusterIPYet
	}
	return 0
}

// Looker answers those who want to know of Services. Its methods may be called at any time, from several goroutines.
type Looker struct{ c *Cluster }

// NewLooker returns the Looker of a Cluster.
func NewLooker(c *Cluster) Looker { return Looker{c} }

// Look is what is known of a Service, for those who ask.
type Look struct {
	// Type is the Service's type, as the API has it.
	Type string
	// Inputs are those of its owners.
	Inputs []Input
	// Endpoints are the names that its slices tell of.
	Endpoints []Named
	// Notes say what of it is not served. They are printable, and few.
	Notes []string
	// Labels are those of the Service, if they are not too long.
	Labels labels.Set
}

// Named is an endpoint with its names, which may be any text.
type Named struct {
	Port                        rules.ServicePortName
	Protocol                    rules.Protocol
	Addr                        netip.AddrPort
	Pod, Node, Zone             string // the pod is of the Service's namespace
	Ready, Serving, Terminating bool
}

// Services returns the names of all Services that are served here, sorted, from a name on that it leaves out; those of a
// namespace, if it is not empty. The Cluster is held up for as long as it takes to go through the names.
func (l Looker) Services(namespace string, after ObjectName) []ObjectName {
	c := l.c
	c.mu.Lock()
	out := make([]ObjectName, 0, len(c.store.services))
	for n := range maps.Keys(c.store.services) {
		if namespace == "" || n.Namespace == namespace {
			out = append(out, n)
		}
	}
	c.mu.Unlock()
	slices.SortFunc(out, compareNames)
	from, found := slices.BinarySearchFunc(out, after, compareNames)
	if found {
		from++
	}
	return out[from:]
}

// Count returns how many Services are served here.
func (l Looker) Count() int {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.store.services)
}

// Look returns what is known of a Service; false: none of this name is served here. The Cluster is held up for one service port
// after the other.
func (l Looker) Look(n ObjectName, names bool) (Look, bool) {
	c := l.c
	var owners []rules.Owner
	c.mu.Lock()
	svc := c.store.services[n]
	if svc == nil {
		c.mu.Unlock()
		return Look{}, false
	}
	out := Look{Type: svc.told.kind.String(), Notes: svc.told.notes}
	text := svc.told.labels
	eachOwner(n, svc, func(o rules.Owner, _ rules.ServicePort) { owners = append(owners, o) })
	c.mu.Unlock()
	out.Labels = labelsOf(text)
	slices.SortFunc(owners, rules.Owner.Compare)
	for _, o := range owners {
		c.mu.Lock()
		in := c.store.input(o)
		if names {
			out.Endpoints = append(out.Endpoints, c.store.named(o, in.Port.Protocol)...)
		}
		c.mu.Unlock()
		if in.Port.Port != 0 {
			out.Inputs = append(out.Inputs, in)
		}
	}
	return out, true
}

// SliceLook is what is known of an EndpointSlice. Names of ports may be any text.
type SliceLook struct {
	Family    rules.Family
	Ports     []SlicePort
	Endpoints int
}

// SlicePort is a port of an EndpointSlice.
type SlicePort struct {
	Name     string
	Protocol rules.Protocol
	Port     uint16
}

// Slices returns what is known of a Service's EndpointSlices, of so many at most.
func (l Looker) Slices(n ObjectName, most int) (out []SliceLook) {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.store.byService[n] {
		if len(out) == most {
			break
		}
		look := SliceLook{Family: s.family, Endpoints: len(s.endpoints)}
		for _, p := range s.ports[:min(len(s.ports), most)] {
			look.Ports = append(look.Ports, SlicePort{p.name, p.protocol, p.port})
		}
		out = append(out, look)
	}
	return out
}

// At returns the Service that has an address, that of a load balancer and an external IP included: the first by its name, if there
// are several; false: none has.
func (l Looker) At(a netip.Addr) (found ObjectName, ok bool) {
	c := l.c
	f := rules.FamilyOf(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, s := range c.store.services {
		has := s.clusterIPs[f] == a || slices.Contains(s.loadBalancers[f], a) || slices.Contains(s.externalIPs[f], a)
		if has && (!ok || compareNames(n, found) < 0) {
			found, ok = n, true
		}
	}
	return found, ok
}

// Namesakes returns the Services of a name in all namespaces, sorted, so many at most.
func (l Looker) Namesakes(name string, most int) (out []ObjectName) {
	c := l.c
	c.mu.Lock()
	for n := range c.store.services {
		if n.Name == name {
			out = append(out, n)
		}
	}
	c.mu.Unlock()
	slices.SortFunc(out, compareNames)
	return out[:min(len(out), most)]
}

func compareNames(a, b ObjectName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// Labels returns those of a Service, if they are not too long; none if there is no such Service.
func (l Looker) Labels(n ObjectName) labels.Set {
	c := l.c
	c.mu.Lock()
	text := ""
	if svc := c.store.services[n]; svc != nil {
		text = svc.told.labels
	}
	c.mu.Unlock()
	return labelsOf(text)
}

// labelsOf reads KEY=VALUE,...
func labelsOf(text string) labels.Set {
	if text == "" {
		return nil
	}
	out := labels.Set{}
	for label := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(label, "=")
		out[key] = value
	}
	return out
}

// Input returns what an owner's objects are built from. Its Port is 0 if there is no such owner.
func (l Looker) Input(o rules.Owner) Input {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.store.input(o)
}

// Conflicts returns the frontends that each owner of a Service does without. The Cluster is held up for as long as it takes to go
// through the Service's frontends.
func (l Looker) Conflicts(n ObjectName) (out []Withheld) {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	svc := c.store.services[n]
	if svc == nil {
		return nil
	}
	eachOwner(n, svc, func(o rules.Owner, _ rules.ServicePort) {
		sp := c.store.servicePort(o)
		for _, cl := range c.store.frontends.withhold(&sp, o) {
			out = append(out, Withheld{o, c.store.frontends.conflictOf(cl)})
		}
	})
	slices.SortStableFunc(out, func(a, b Withheld) int { return a.Owner.Compare(b.Owner) })
	return out
}

// Withheld is a frontend that an owner does without.
type Withheld struct {
	Owner rules.Owner
	Conflict
}

// named returns the names of an owner's endpoints.
func (st *store) named(o rules.Owner, protocol rules.Protocol) (out []Named) {
	for _, s := range st.byService[ServiceOf(o)] {
		if s.family != o.Family {
			continue
		}
		for _, p := range s.ports.named(o.Port) {
			if p.protocol != protocol {
				continue
			}
			for i := range s.endpoints {
				e := &s.endpoints[i]
				at := e.place()
				out = append(out, Named{o.ServicePortName, protocol, netip.AddrPortFrom(e.addr(), p.port), e.pod, at.node, at.zone, e.ready, e.serving, e.terminating})
			}
		}
	}
	return out
}

// Unaddressed says why a Service has no address of its own; 0: it has one, or there is no such Service.
func (l Looker) Unaddressed(n ObjectName) reason.Code {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.store.unaddressed[n]
}

// Node returns what holds for all services, as it was last taken.
func (l Looker) Node() rules.Node {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.node.taken
}

// ServedBy is that of the Cluster.
func (l Looker) ServedBy(f rules.Frontend) rules.Owner { return l.c.ServedBy(f) }
