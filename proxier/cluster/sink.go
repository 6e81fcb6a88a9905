// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"maps"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/nftproxy/nftproxy/reason"
)

// Sink is how a source tells a Cluster of objects. It implements source.Sink.
type Sink struct{ c *Cluster }

// NewSink returns the Sink of a Cluster.
func NewSink(c *Cluster) *Sink { return &Sink{c} }

// change changes the Cluster and tells of it.
func (s *Sink) change(do func()) {
	s.c.mu.Lock()
	do()
	s.c.mu.Unlock()
	s.c.listener.Changed()
}

// ReplaceServices takes the full list of Services.
func (s *Sink) ReplaceServices(list []*corev1.Service) {
	s.change(func() {
		seen := make(map[ObjectName]bool, len(list))
		for _, svc := range list {
			seen[ObjectName{svc.Namespace, svc.Name}] = true
			s.setService(svc)
		}
		for _, known := range []map[ObjectName]*service{s.c.store.services, s.c.store.shares.selective} {
			for n := range known {
				if !seen[n] {
					s.putService(n, nil)
				}
			}
		}
		maps.DeleteFunc(s.c.store.unaddressed, func(n ObjectName, _ reason.Code) bool { return !seen[n] })
		s.c.listed.services = true
	})
}

// UpdateService takes a Service that is new or has changed.
func (s *Sink) UpdateService(svc *corev1.Service) {
	s.change(func() { s.setService(svc) })
}

// DeleteService forgets a Service.
func (s *Sink) DeleteService(namespace, name string) {
	s.change(func() { s.putService(ObjectName{namespace, name}, nil) })
}

func (s *Sink) setService(obj *corev1.Service) {
	svc, errs := convertService(obj, serviceOptions{s.c.config.Scheduler, s.c.config.NoExternalIPs, s.c.config.Failover, s.c.config.TableSize})
	n := ObjectName{obj.Namespace, obj.Name}
	about := Object{"v1", "Service", n, ""}
	if svc != nil {
		about.UID = svc.uid
		svc.tell(obj, errs)
	}
	s.unusable(about, errs)
	s.putService(n, svc)
	if why := Unaddressed(obj); why != 0 {
		s.c.store.unaddressed[n] = why
	}
}

// putService stores a Service, or with nil forgets it, and counts the change.
func (s *Sink) putService(n ObjectName, svc *service) {
	s.c.backlog.AllServices++
	delete(s.c.store.unaddressed, n)
	svc = s.c.store.selected(n, svc)
	what := became(s.c.store.services[n] != nil, svc != nil)
	if s.c.store.setService(n, svc) {
		s.c.pending.causes.add("Service", n, what)
		s.c.pending.services[n] = struct{}{}
	}
}

// ReplaceEndpointSlices takes the full list of EndpointSlices.
func (s *Sink) ReplaceEndpointSlices(list []*discoveryv1.EndpointSlice) {
	s.change(func() {
		seen := make(map[ObjectName]bool, len(list))
		for _, es := range list {
			seen[ObjectName{es.Namespace, es.Name}] = true
			s.setSlice(es)
		}
		for n := range s.c.store.slices {
			if !seen[n] {
				s.putSlice(n, nil, "")
			}
		}
		s.c.listed.slices, s.c.store.shares.settled = true, true
	})
}

// UpdateEndpointSlice takes an EndpointSlice that is new or has changed.
func (s *Sink) UpdateEndpointSlice(es *discoveryv1.EndpointSlice) {
	s.change(func() { s.setSlice(es) })
}

// DeleteEndpointSlice forgets an EndpointSlice.
func (s *Sink) DeleteEndpointSlice(namespace, name string) {
	s.change(func() { s.putSlice(ObjectName{namespace, name}, nil, "") })
}

func (s *Sink) setSlice(es *discoveryv1.EndpointSlice) {
	sl, errs := convertSlice(es, s.c.config.NodeName)
	about := Object{"discovery.k8s.io/v1", "EndpointSlice", ObjectName{es.Namespace, es.Name}, es.UID}
	s.unusable(about, errs)
	s.putSlice(about.ObjectName, sl, es.Annotations[corev1.EndpointsLastChangeTriggerTime])
	if sl == nil {
		s.fault(Fault{Kind: NotForProxies, About: about, Text: string(es.AddressType)})
	}
}

// putSlice stores an EndpointSlice, or with nil forgets it, and counts the change. trigger is the
// time in its annotation: it counts if the slice has changed, so not when all are listed again,
// and if that was after the start.
func (s *Sink) putSlice(n ObjectName, sl *slice, trigger string) {
	old := s.c.store.slices[n]
	if old == nil && sl == nil {
		return
	}
	s.c.backlog.AllSlices++
	if !s.c.store.setSlice(n, sl) {
		return
	}
	s.c.pending.slices++
	s.c.pending.causes.add("EndpointSlice", n, became(old != nil, sl != nil))
	if sl == nil {
		s.c.pending.forget(old.family, old.service)
		return
	}
	s.c.pending.trigger(sl, trigger, s.c.began)
}

// ReplaceNodes takes the full list of Nodes, of which only this one matters.
func (s *Sink) ReplaceNodes(list []*corev1.Node) {
	var found *corev1.Node
	for _, n := range list {
		if n.Name == s.c.config.NodeName {
			found = n
		}
	}
	s.setNode(found)
}

// UpdateNode takes a Node that is new or has changed.
func (s *Sink) UpdateNode(n *corev1.Node) {
	if n.Name == s.c.config.NodeName {
		s.setNode(n)
	}
}

// DeleteNode is told that a Node is gone. What is known of this one stays: its
// services do not go with it.
func (s *Sink) DeleteNode(name string) {
	if name == s.c.config.NodeName {
		s.c.listener.SetNodeEligible(false)
		s.change(func() { s.fault(Fault{Kind: NodeGone, About: nodeObject(name)}) })
	}
}

func nodeObject(name string) Object { return Object{"v1", "Node", ObjectName{"", name}, ""} }

// setNode notes what is known of this node; nil: nothing.
func (s *Sink) setNode(n *corev1.Node) {
	config := &s.c.config
	switch {
	case n != nil:
		s.c.listener.SetNodeEligible(convertNode(n).Eligible)
	case config.NodeExpected: // in a cluster, a node without an object is none for load balancers
		s.c.listener.SetNodeEligible(false)
	}
	s.change(func() {
		s.c.listed.nodes = true
		switch {
		case n != nil:
			s.c.node.info, s.c.node.seen = convertNode(n), true
			s.setLabels(n.Labels)
		case config.NodeName != "" && !config.NodeExpected: // else who waits for it says so
			s.fault(Fault{Kind: NodeMissing, About: nodeObject(config.NodeName)})
		}
	})
}

// setLabels says what this node's labels are: some Services are for others.
func (s *Sink) setLabels(now map[string]string) {
	sh := &s.c.store.shares
	if maps.Equal(sh.labels, now) {
		return
	}
	sh.labels = maps.Clone(now)
	for n, svc := range maps.Clone(sh.selective) {
		s.putService(n, svc)
	}
}

// ReplaceServiceCIDRs takes the full list of ServiceCIDRs.
func (s *Sink) ReplaceServiceCIDRs(list []*networkingv1.ServiceCIDR) {
	s.change(func() {
		s.c.listed.serviceCIDRs = true
		clear(s.c.node.serviceCIDRs)
		for _, c := range list {
			s.setServiceCIDR(c)
		}
	})
}

// UpdateServiceCIDR takes a ServiceCIDR that is new or has changed.
func (s *Sink) UpdateServiceCIDR(c *networkingv1.ServiceCIDR) {
	s.change(func() {
		s.c.pending.causes.add("ServiceCIDR", ObjectName{"", c.Name}, became(s.c.node.serviceCIDRs[c.Name] != nil, true))
		s.setServiceCIDR(c)
	})
}

// DeleteServiceCIDR forgets a ServiceCIDR.
func (s *Sink) DeleteServiceCIDR(name string) {
	s.change(func() {
		s.c.pending.causes.add("ServiceCIDR", ObjectName{"", name}, causeWent)
		delete(s.c.node.serviceCIDRs, name)
	})
}

func (s *Sink) setServiceCIDR(c *networkingv1.ServiceCIDR) {
	var cidrs []netip.Prefix
	var errs []error
	for _, text := range c.Spec.CIDRs {
		cidr, ok := parsePrefix(text)
		if !ok {
			errs = append(errs, fmt.Errorf("servicecidr %s: %q is not a CIDR: left out", c.Name, text))
			continue
		}
		cidrs = append(cidrs, cidr)
	}
	s.unusable(Object{"networking.k8s.io/v1", "ServiceCIDR", ObjectName{"", c.Name}, c.UID}, errs)
	s.c.node.serviceCIDRs[c.Name] = cidrs
}

func (s *Sink) fault(f Fault) { s.c.faults.add(f) }

// unusable notes what of an object cannot be used, if anything.
func (s *Sink) unusable(about Object, errs []error) {
	if len(errs) > 0 {
		s.fault(Fault{Kind: Unusable, About: about, Errs: errs})
	}
}
