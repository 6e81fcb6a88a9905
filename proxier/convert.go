// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"math"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/nftproxy/nftproxy/rules"
)

// convertService returns what proxying needs of a Service: nil for one that has
// no address of its own (headless, ExternalName). What cannot be used is left out
// and told of in errs.
func convertService(s *corev1.Service) (svc *service, errs []error) {
	if s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.ClusterIP == corev1.ClusterIPNone || s.Spec.ClusterIP == "" {
		return nil, nil
	}
	out := &service{created: s.CreationTimestamp.Time}
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{s.Spec.ClusterIP}
	}
	for _, ip := range ips {
		a, err := netip.ParseAddr(ip)
		if err != nil || a.Zone() != "" {
			errs = append(errs, fmt.Errorf("service %s/%s: clusterIP %q is not an IP address: left out", s.Namespace, s.Name, ip))
			continue
		}
		out.clusterIPs[rules.FamilyOf(a)] = a.Unmap()
	}
	for _, p := range s.Spec.Ports {
		proto, ok := protocolOf(p.Protocol)
		switch _, double := out.port(p.Name); {
		case !ok:
			errs = append(errs, fmt.Errorf("service %s/%s: port %q has protocol %q: only TCP, UDP and SCTP can be served", s.Namespace, s.Name, p.Name, p.Protocol))
		case p.Port < 1 || p.Port > math.MaxUint16:
			errs = append(errs, fmt.Errorf("service %s/%s: port %q has number %d: left out", s.Namespace, s.Name, p.Name, p.Port))
		case double:
			errs = append(errs, fmt.Errorf("service %s/%s: it has two ports named %q: the second is left out", s.Namespace, s.Name, p.Name))
		default:
			out.ports = append(out.ports, servicePort{p.Name, proto, uint16(p.Port)})
		}
	}
	return out, errs
}

func protocolOf(p corev1.Protocol) (rules.Protocol, bool) {
	switch p {
	case corev1.ProtocolTCP, "":
		return rules.TCP, true
	case corev1.ProtocolUDP:
		return rules.UDP, true
	case corev1.ProtocolSCTP:
		return rules.SCTP, true
	}
	return 0, false
}

// convertSlice returns what proxying needs of an EndpointSlice: nil for one that
// is no service's or holds no IP addresses. nodeName is this node's.
func convertSlice(es *discoveryv1.EndpointSlice, nodeName string) (s *slice, errs []error) {
	name := es.Namespace + "/" + es.Name
	svc := es.Labels[discoveryv1.LabelServiceName]
	if svc == "" {
		return nil, []error{fmt.Errorf("endpointslice %s: it has no label %s: left out", name, discoveryv1.LabelServiceName)}
	}
	out := &slice{service: objectName{es.Namespace, svc}}
	switch es.AddressType {
	case discoveryv1.AddressTypeIPv4:
		out.family = rules.IPv4
	case discoveryv1.AddressTypeIPv6:
		out.family = rules.IPv6
	default:
		return nil, []error{fmt.Errorf("endpointslice %s: its addresses are of type %s: only IPv4 and IPv6 can be served, left out", name, es.AddressType)}
	}
	for _, p := range es.Ports {
		if p.Port == nil { // 'all ports' is for other consumers than service proxies
			continue
		}
		var portName string
		if p.Name != nil {
			portName = *p.Name
		}
		var protocol corev1.Protocol
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		proto, ok := protocolOf(protocol)
		if !ok || *p.Port < 1 || *p.Port > math.MaxUint16 {
			errs = append(errs, fmt.Errorf("endpointslice %s: port %q (%s %d) cannot be served: left out", name, portName, protocol, *p.Port))
			continue
		}
		out.ports = append(out.ports, servicePort{portName, proto, uint16(*p.Port)})
	}
	for i := range es.Endpoints {
		e, err := convertEndpoint(&es.Endpoints[i], out.family, nodeName)
		if err != nil {
			errs = append(errs, fmt.Errorf("endpointslice %s: endpoint %d: %w", name, i, err))
			continue
		}
		out.endpoints = append(out.endpoints, e)
	}
	return out, errs
}

func convertEndpoint(e *discoveryv1.Endpoint, f rules.Family, nodeName string) (endpoint, error) {
	if len(e.Addresses) == 0 {
		return endpoint{}, fmt.Errorf("it has no address: left out")
	}
	// Consumers use the first address only (discovery/v1).
	a, err := netip.ParseAddr(e.Addresses[0])
	if err != nil || a.Zone() != "" {
		return endpoint{}, fmt.Errorf("address %q is not an IP address: left out", e.Addresses[0])
	}
	if a = a.Unmap(); rules.FamilyOf(a) != f {
		return endpoint{}, fmt.Errorf("address %s is not of the slice's address type: left out", a)
	}
	ready := e.Conditions.Ready == nil || *e.Conditions.Ready
	serving := ready
	if e.Conditions.Serving != nil {
		serving = *e.Conditions.Serving
	}
	return endpoint{
		addr: a, ready: ready, serving: serving,
		terminating: e.Conditions.Terminating != nil && *e.Conditions.Terminating,
		local:       e.NodeName == nil || *e.NodeName == nodeName,
	}, nil
}
