// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"errors"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/nftproxy/nftproxy/printable"
)

// ReplaceServices takes the full list of Services.
func (p *Proxier) ReplaceServices(list []*corev1.Service) {
	defer p.signal()
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := make(map[objectName]bool, len(list))
	for _, s := range list {
		seen[objectName{s.Namespace, s.Name}] = true
		p.setService(s)
	}
	for n := range p.store.services {
		if !seen[n] {
			p.putService(n, nil)
		}
	}
	p.haveServices = true
}

// UpdateService takes a Service that is new or has changed.
func (p *Proxier) UpdateService(s *corev1.Service) {
	defer p.signal()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setService(s)
}

// DeleteService forgets a Service.
func (p *Proxier) DeleteService(namespace, name string) {
	defer p.signal()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.putService(objectName{namespace, name}, nil)
}

func (p *Proxier) setService(s *corev1.Service) {
	svc, errs := convertService(s, serviceOptions{p.config.Scheduler, p.config.NoExternalIPs})
	p.report(errs)
	n := objectName{s.Namespace, s.Name}
	p.putService(n, svc)
	if len(errs) > 0 {
		p.warnService(n, ReasonInvalid, faults(errs))
	}
}

// ReplaceEndpointSlices takes the full list of EndpointSlices.
func (p *Proxier) ReplaceEndpointSlices(list []*discoveryv1.EndpointSlice) {
	defer p.signal()
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := make(map[objectName]bool, len(list))
	for _, s := range list {
		seen[objectName{s.Namespace, s.Name}] = true
		p.setSlice(s)
	}
	for n := range p.store.slices {
		if !seen[n] {
			p.putSlice(n, nil, "")
		}
	}
	p.haveSlices = true
}

// UpdateEndpointSlice takes an EndpointSlice that is new or has changed.
func (p *Proxier) UpdateEndpointSlice(s *discoveryv1.EndpointSlice) {
	defer p.signal()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setSlice(s)
}

// DeleteEndpointSlice forgets an EndpointSlice.
func (p *Proxier) DeleteEndpointSlice(namespace, name string) {
	defer p.signal()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.putSlice(objectName{namespace, name}, nil, "")
}

func (p *Proxier) setSlice(es *discoveryv1.EndpointSlice) {
	s, errs := convertSlice(es, p.config.NodeName)
	p.report(errs)
	p.putSlice(objectName{es.Namespace, es.Name}, s, es.Annotations[corev1.EndpointsLastChangeTriggerTime])
	if s == nil {
		p.log.V(2).Info("Not for a service proxy", "endpointSlice", es.Namespace+"/"+es.Name, "addressType", printable.Word(string(es.AddressType)))
	}
	if len(errs) > 0 {
		p.warn(corev1.ObjectReference{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice",
			Namespace: es.Namespace, Name: es.Name, UID: es.UID}, reasonInvalidSlice, faults(errs))
	}
}

// ReplaceNodes takes the full list of Nodes, of which only this one matters.
func (p *Proxier) ReplaceNodes(list []*corev1.Node) {
	var found *corev1.Node
	for _, n := range list {
		if n.Name == p.config.NodeName {
			found = n
		}
	}
	if found == nil && p.config.NodeName != "" && p.config.NodeWait <= 0 { // else awaitNode says it
		p.log.Info("There is no Node object of this node's name: its zone and addresses are not known",
			"node", p.config.NodeName)
	}
	p.setNode(found)
}

// UpdateNode takes a Node that is new or has changed.
func (p *Proxier) UpdateNode(n *corev1.Node) {
	if n.Name == p.config.NodeName {
		p.setNode(n)
	}
}

// DeleteNode is told that a Node is gone. What is known of this one stays: its
// services do not go with it.
func (p *Proxier) DeleteNode(name string) {
	if name == p.config.NodeName {
		p.log.Info("The Node object of this node is gone", "node", name)
		p.config.Health.SetNodeEligible(false)
	}
}

// setNode notes what is known of this node; nil: nothing.
func (p *Proxier) setNode(n *corev1.Node) {
	defer p.signal()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.haveNodes = true
	if n != nil {
		p.node, p.nodeSeen = convertNode(n), true
		p.config.Health.SetNodeEligible(p.node.Eligible)
	} else if p.config.NodeWait > 0 { // in a cluster, a node without an object is none for load balancers
		p.config.Health.SetNodeEligible(false)
	}
}

// ReplaceServiceCIDRs takes the full list of ServiceCIDRs.
func (p *Proxier) ReplaceServiceCIDRs(list []*networkingv1.ServiceCIDR) {
	defer p.signal()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.haveServiceCIDRs = true
	clear(p.serviceCIDRs)
	for _, c := range list {
		p.setServiceCIDR(c)
	}
}

// UpdateServiceCIDR takes a ServiceCIDR that is new or has changed.
func (p *Proxier) UpdateServiceCIDR(c *networkingv1.ServiceCIDR) {
	defer p.signal()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setServiceCIDR(c)
}

// DeleteServiceCIDR forgets a ServiceCIDR.
func (p *Proxier) DeleteServiceCIDR(name string) {
	defer p.signal()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.serviceCIDRs, name)
}

func (p *Proxier) setServiceCIDR(c *networkingv1.ServiceCIDR) {
	var cidrs []netip.Prefix
	for _, s := range c.Spec.CIDRs {
		cidr, ok := parsePrefix(s)
		if !ok {
			p.report([]error{fmt.Errorf("servicecidr %s: %q is not a CIDR: left out", c.Name, s)})
			continue
		}
		cidrs = append(cidrs, cidr)
	}
	p.serviceCIDRs[c.Name] = cidrs
}

// faults is one text for all that is wrong with an object: events about one object with
// one reason are counted together, and only the first one's text is kept.
func faults(errs []error) string { return printable.Error(errors.Join(errs...)) }

// report logs what of an object cannot be used.
func (p *Proxier) report(errs []error) {
	for _, err := range errs {
		p.log.Info("Skipped", "reason", printable.Error(err))
		p.config.Metrics.skipped.Inc()
	}
}
