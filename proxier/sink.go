// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
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
			p.store.setService(n, nil)
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
	p.store.setService(objectName{namespace, name}, nil)
}

func (p *Proxier) setService(s *corev1.Service) {
	svc, errs := convertService(s)
	p.report(errs)
	p.store.setService(objectName{s.Namespace, s.Name}, svc)
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
			p.store.setSlice(n, nil)
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
	p.store.setSlice(objectName{namespace, name}, nil)
}

func (p *Proxier) setSlice(es *discoveryv1.EndpointSlice) {
	s, errs := convertSlice(es, p.config.NodeName)
	p.report(errs)
	p.store.setSlice(objectName{es.Namespace, es.Name}, s)
}

// ReplaceNodes, UpdateNode and DeleteNode are told of Nodes, of which nothing is
// needed yet but the name, which is configured.
func (p *Proxier) ReplaceNodes([]*corev1.Node) {}

// UpdateNode does nothing: see ReplaceNodes.
func (p *Proxier) UpdateNode(*corev1.Node) {}

// DeleteNode does nothing: see ReplaceNodes.
func (p *Proxier) DeleteNode(string) {}

// report logs what of an object cannot be used.
func (p *Proxier) report(errs []error) {
	for _, err := range errs {
		p.log.Info("Skipped", "reason", err.Error())
		p.config.Metrics.skipped.Inc()
	}
}
