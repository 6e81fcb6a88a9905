// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	netutils "k8s.io/utils/net"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// defaultAffinity is the API's default of sessionAffinityConfig.clientIP.timeoutSeconds.
const defaultAffinity = 10800

// serviceOptions says how Services are read.
type serviceOptions struct {
	scheduler     rules.Scheduler // of Services that choose none
	noExternalIPs bool            // leave externalIPs out (KEP-5707)
	failover      bool            // of Services that do not say
	tableSize     uint16          // of schedulers that have tables
}

// convertService returns what proxying needs of a Service: nil for one that has
// no address of its own (headless, ExternalName). What cannot be used is left out
// and told of in errs.
func convertService(s *corev1.Service, o serviceOptions) (svc *service, errs []error) {
	if Unaddressed(s) != 0 {
		return nil, nil
	}
	out := &service{created: s.CreationTimestamp.Time, uid: s.UID, policies: rules.Policies{Scheduler: o.scheduler, TableSize: o.tableSize, Failover: o.failover}}
	object := "service " + s.Namespace + "/" + s.Name
	var faults faultList
	fault := func(why reason.Code, args ...any) { faults.add(fmt.Errorf("%s: %s", object, why.Text(args...))) }
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{s.Spec.ClusterIP}
	}
	for _, ip := range ips {
		a, ok := parseAddr(ip)
		switch {
		case !ok:
			fault(reason.BadAddress, "clusterIP", ip)
		case special(a) != "":
			fault(reason.SpecialAddress, "clusterIP", ip, special(a))
		default:
			out.clusterIPs[rules.FamilyOf(a)] = a
		}
	}
	convertPorts(s, out, fault)
	convertExternal(s, out, o, fault)
	out.policies.InternalLocal = ptr.Deref(s.Spec.InternalTrafficPolicy, "") == corev1.ServiceInternalTrafficPolicyLocal
	if s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		out.policies.Affinity = defaultAffinity
		if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil {
			if n := ptr.Deref(c.ClientIP.TimeoutSeconds, defaultAffinity); n > 0 {
				out.policies.Affinity = uint32(n)
			}
		}
	}
	convertScheduler(s, out, o, fault)
	convertChoices(s, out, o, fault)
	switch text, ok := s.Annotations[FailoverAnnotation]; {
	case !ok:
	case text == "true" || text == "false":
		out.policies.Failover = text == "true"
	default:
		fault(reason.UnknownFailover, FailoverAnnotation, text, o.failover)
	}
	out.bound(fault)
	return out, faults.errs(object)
}

func convertPorts(s *corev1.Service, out *service, fault func(reason.Code, ...any)) {
	list := s.Spec.Ports
	if n := len(list) - maxPorts; n > 0 {
		list = list[:maxPorts]
		out.over.Ports = n
		fault(reason.TooManyPorts, len(s.Spec.Ports), maxPorts)
	}
	out.ports = make(ports, 0, len(list))
	for _, p := range list {
		proto, err := rules.ParseProtocol(string(cmp.Or(p.Protocol, corev1.ProtocolTCP)))
		switch {
		case err != nil:
			fault(reason.BadProtocol, p.Name, p.Protocol)
		case p.Port < 1 || p.Port > math.MaxUint16:
			fault(reason.BadPort, p.Name, p.Port)
		case p.NodePort < 0 || p.NodePort > math.MaxUint16:
			fault(reason.BadNodePort, p.Name, p.NodePort)
			out.ports = append(out.ports, servicePort{name: p.Name, protocol: proto, port: uint16(p.Port)})
		default:
			out.ports = append(out.ports, servicePort{name: p.Name, protocol: proto, port: uint16(p.Port), nodePort: uint16(p.NodePort)})
		}
	}
	out.ports.sort()
	out.ports = slices.CompactFunc(out.ports, func(a, b servicePort) bool {
		if a.name == b.name {
			fault(reason.PortTwice, b.name)
		}
		return a.name == b.name
	})
}

// convertExternal reads what serves clients outside the cluster.
func convertExternal(s *corev1.Service, out *service, o serviceOptions, fault func(reason.Code, ...any)) {
	convertAddresses(s, out, o, fault)
	convertSourceRanges(s, out, fault)
	external := s.Spec.Type == corev1.ServiceTypeLoadBalancer || s.Spec.Type == corev1.ServiceTypeNodePort ||
		len(s.Spec.ExternalIPs) > 0
	out.policies.ExternalLocal = external && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	if out.policies.ExternalLocal && s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		if n := s.Spec.HealthCheckNodePort; n > 0 && n <= math.MaxUint16 {
			out.healthPort = uint16(n)
		} else {
			fault(reason.NoHealthPort, n)
		}
	}
}

// convertAddresses reads the addresses outside the cluster. One that the Service has twice is what it is first of
// ClusterIP, load balancer's address and externalIP.
func convertAddresses(s *corev1.Service, out *service, o serviceOptions, fault func(reason.Code, ...any)) {
	if len(s.Status.LoadBalancer.Ingress)+len(s.Spec.ExternalIPs) == 0 {
		return
	}
	seen := addrSet{}
	for _, a := range out.clusterIPs {
		seen.put(a)
	}
	for _, in := range s.Status.LoadBalancer.Ingress {
		if in.IP != "" && ptr.Deref(in.IPMode, corev1.LoadBalancerIPModeVIP) == corev1.LoadBalancerIPModeVIP {
			seen.add(&out.loadBalancers, in.IP, "load balancer address", fault)
		}
	}
	if !o.noExternalIPs {
		for _, ip := range s.Spec.ExternalIPs {
			seen.add(&out.externalIPs, ip, "externalIP", fault)
		}
	}
}

// convertSourceRanges reads who may connect to load balancers' addresses. If a range cannot be
// read, a family without any other lets nobody in: to leave it out would let all in. Or they are those that may not
// connect: then it is left out.
func convertSourceRanges(s *corev1.Service, out *service, fault func(reason.Code, ...any)) {
	if text, name := annotation(s.Annotations, RangesPolicyAnnotation); name != "" {
		if out.policies.DenySources = strings.EqualFold(text, "deny"); !out.policies.DenySources && !strings.EqualFold(text, "allow") {
			fault(reason.BadAnnotation, name, fmt.Sprintf("%q is neither allow nor deny", text), "allow")
		}
	}
	var unreadable []string
	for _, r := range s.Spec.LoadBalancerSourceRanges {
		r = strings.TrimSpace(r) // the API lets blanks around a range pass
		if r == "" {
			continue
		}
		p, ok := parsePrefix(r)
		if !ok {
			unreadable = append(unreadable, r)
			continue
		}
		f := rules.FamilyOf(p.Addr())
		out.sourceRanges[f] = append(out.sourceRanges[f], p)
	}
	if policies := &out.policies; policies.DenySources {
		for _, r := range unreadable {
			fault(reason.BadDeniedRange, r)
		}
		return
	}
	for _, r := range unreadable {
		fault(reason.BadSourceRange, r)
	}
	for f, nobody := range [2]netip.Addr{rules.IPv4: netip.IPv4Unspecified(), rules.IPv6: netip.IPv6Unspecified()} {
		if len(unreadable) > 0 && len(out.sourceRanges[f]) == 0 {
			out.sourceRanges[f] = []netip.Prefix{netip.PrefixFrom(nobody, nobody.BitLen())}
		}
	}
}

// addrSet is the addresses of a Service, or of an EndpointSlice, that were seen.
type addrSet map[netip.Addr]struct{}

// put adds an address, and says whether it is new.
func (s addrSet) put(a netip.Addr) bool {
	if _, ok := s[a]; ok {
		return false
	}
	s[a] = struct{}{}
	return true
}

// add reads an address outside the cluster and, if it can be one and is new, adds it to a list.
func (s addrSet) add(to *[2][]netip.Addr, text, what string, fault func(reason.Code, ...any)) {
	if strings.TrimSpace(text) == "" {
		return // as kube-proxy: the API did not refuse it once
	}
	a, ok := parseAddr(text)
	switch {
	case !ok:
		fault(reason.BadAddress, what, text)
	case mapped(text):
		fault(reason.MappedAddress, what, text)
	case special(a) != "":
		fault(reason.SpecialAddress, what, text, special(a))
	case s.put(a):
		f := rules.FamilyOf(a)
		to[f] = append(to[f], a)
	}
}

// mapped says whether an address is an IPv4 one that is written as an IPv6 one. Since Kubernetes 1.36 the API
// takes no new ones.
func mapped(text string) bool {
	a, ok := parseAddr(text)
	return ok && a.Is4() && strings.Contains(text, ":")
}

// special says what an address is that nobody else has or that means many: no Service may have it, and no endpoint.
// It is what the API refuses for endpoints and externalIPs (ValidateEndpointIP), and all that is multicast or broadcast.
// For others it is empty.
func special(a netip.Addr) string {
	switch {
	case a.IsUnspecified():
		return "the unspecified address"
	case a.IsLoopback():
		return "a loopback address"
	case a.IsLinkLocalUnicast():
		return "a link-local address"
	case a.IsMulticast():
		return "a multicast address"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "the broadcast address"
	}
	return ""
}

// parseAddr reads an address as the API and kube-proxy do, where numbers may begin with
// zeros. IPv4 addresses may be in their IPv6-mapped form.
func parseAddr(text string) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(netutils.ParseIPSloppy(text))
	return a.Unmap(), ok
}

// parsePrefix does the same for a CIDR; bits after the prefix are cleared.
func parsePrefix(text string) (netip.Prefix, bool) {
	_, cidr, err := netutils.ParseCIDRSloppy(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	a, _ := netip.AddrFromSlice(cidr.IP)
	bits, size := cidr.Mask.Size()
	if a.Is4In6() {
		a, bits = a.Unmap(), bits-(size-32)
	}
	p := netip.PrefixFrom(a, bits)
	return p, p.IsValid()
}

// convertSlice returns what proxying needs of an EndpointSlice: nil for one that
// is no service's or holds no IP addresses, which are for others. nodeName is this node's.
func convertSlice(es *discoveryv1.EndpointSlice, nodeName string) (s *slice, errs []error) {
	name := es.Namespace + "/" + es.Name
	svc := es.Labels[discoveryv1.LabelServiceName]
	if svc == "" {
		return nil, nil
	}
	var faults faultList
	out := &slice{service: ObjectName{es.Namespace, svc}}
	switch es.AddressType {
	case discoveryv1.AddressTypeIPv4:
		out.family = rules.IPv4
	case discoveryv1.AddressTypeIPv6:
		out.family = rules.IPv6
	default:
		return nil, nil
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
		proto, err := rules.ParseProtocol(string(cmp.Or(protocol, corev1.ProtocolTCP)))
		if err != nil || *p.Port < 1 || *p.Port > math.MaxUint16 {
			faults.add(fmt.Errorf("endpointslice %s: %s", name, reason.BadSlicePort.Text(portName, protocol, *p.Port)))
			continue
		}
		out.ports = append(out.ports, servicePort{name: portName, protocol: proto, port: uint16(*p.Port)})
	}
	out.ports.sort()
	if text, key := annotation(es.Annotations, WeightAnnotation); key != "" {
		var weight uint16
		if err := readWeight(text, 0, &weight); err != nil {
			faults.add(fmt.Errorf("endpointslice %s: %s", name, reason.BadWeight.Text(key, err)))
		} else {
			out.weight, out.idle = weight, weight == 0
		}
	}
	out.endpoints = make([]endpoint, 0, len(es.Endpoints))
	for i := range es.Endpoints {
		e, err := convertEndpoint(&es.Endpoints[i], out.family, nodeName)
		if err != nil {
			faults.add(fmt.Errorf("endpointslice %s: endpoint %d: %w", name, i, err))
			continue
		}
		out.endpoints = append(out.endpoints, e)
	}
	return out, faults.errs("endpointslice " + name)
}

func convertEndpoint(e *discoveryv1.Endpoint, f rules.Family, nodeName string) (endpoint, error) {
	if len(e.Addresses) == 0 {
		return endpoint{}, errors.New(reason.NoAddress.Text())
	}
	// Consumers use the first address only (discovery/v1).
	a, ok := parseAddr(e.Addresses[0])
	if !ok {
		return endpoint{}, errors.New(reason.BadEndpointAddress.Text(e.Addresses[0]))
	}
	if what := special(a); what != "" {
		return endpoint{}, errors.New(reason.SpecialEndpointAddress.Text(a, what))
	}
	if rules.FamilyOf(a) != f {
		return endpoint{}, errors.New(reason.OtherFamily.Text(a))
	}
	out := endpoint{ip: a.As16(), ready: ptr.Deref(e.Conditions.Ready, true)}
	out.serving = ptr.Deref(e.Conditions.Serving, true)
	out.terminating = ptr.Deref(e.Conditions.Terminating, false)
	out.local = e.NodeName != nil && *e.NodeName == nodeName
	out.nodeUnknown = e.NodeName == nil
	out.at = unique.Make(place{zone: ptr.Deref(e.Zone, ""), node: ptr.Deref(e.NodeName, "")})
	if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
		out.pod = e.TargetRef.Name
	}
	if e.Hints != nil && len(e.Hints.ForZones)+len(e.Hints.ForNodes) > 0 {
		out.hints = &hints{}
		for _, z := range e.Hints.ForZones {
			out.hints.zones = append(out.hints.zones, z.Name)
		}
		for _, n := range e.Hints.ForNodes {
			out.hints.nodes = append(out.hints.nodes, n.Name)
		}
	}
	return out, nil
}
