// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// What an API server would refuse, as far as the consumer relies on it.

// prepareService completes and checks a Service; it tells whether the Service is for us.
func prepareService(d *document, s *corev1.Service) bool {
	if !d.ours.Selects(s.Labels) {
		return false
	}
	defaultService(s)
	d.checkName("metadata.name", s.Name, validation.IsDNS1123Label)
	d.checkName("metadata.namespace", s.Namespace, validation.IsDNS1123Label)
	checkEnum(d, "spec.type", s.Spec.Type, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort,
		corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return true
	}
	checkEnum(d, "spec.sessionAffinity", s.Spec.SessionAffinity, corev1.ServiceAffinityNone, corev1.ServiceAffinityClientIP)
	checkEnum(d, "spec.internalTrafficPolicy", *s.Spec.InternalTrafficPolicy,
		corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)
	checkEnum(d, "spec.externalTrafficPolicy", s.Spec.ExternalTrafficPolicy, "",
		corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)
	d.checkAffinityTimeout(s.Spec.SessionAffinityConfig)
	d.checkClusterIPs(&s.Spec)
	d.checkServicePorts(s.Spec.Ports)
	return true
}

// prepareEndpointSlice completes and checks an EndpointSlice; it tells whether the EndpointSlice is for us.
func prepareEndpointSlice(d *document, s *discoveryv1.EndpointSlice) bool {
	if _, headless := s.Labels[corev1.IsHeadlessService]; headless {
		return false
	}
	defaultEndpointSlice(s)
	d.checkName("metadata.name", s.Name, validation.IsDNS1123Subdomain)
	d.checkName("metadata.namespace", s.Namespace, validation.IsDNS1123Label)
	if service := s.Labels[discoveryv1.LabelServiceName]; service == "" {
		d.fail(find(d.root, "metadata.labels"), "the label %s is missing: it says which Service the EndpointSlice %s belongs to",
			discoveryv1.LabelServiceName, s.Name)
	} else {
		d.checkName("metadata.labels", service, validation.IsDNS1123Label)
	}
	checkEnum(d, "addressType", s.AddressType, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN)
	for i, p := range s.Ports {
		path := fmt.Sprintf("ports[%d]", i)
		d.checkPortName(path, *p.Name)
		checkEnum(d, path+".protocol", *p.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
		if p.Port != nil {
			d.checkRange(path+".port", *p.Port, 1, 65535)
		}
	}
	for i, e := range s.Endpoints {
		if len(e.Addresses) == 0 {
			d.failAt(fmt.Sprintf("endpoints[%d].addresses", i), "want at least one")
		}
	}
	return true
}

// prepareNode checks a Node; every Node is for us.
func prepareNode(d *document, n *corev1.Node) bool {
	d.checkName("metadata.name", n.Name, validation.IsDNS1123Subdomain)
	return true
}

// prepareServiceCIDR checks a ServiceCIDR; every one is for us.
func prepareServiceCIDR(d *document, s *networkingv1.ServiceCIDR) bool {
	d.checkName("metadata.name", s.Name, validation.IsDNS1123Subdomain)
	var families []corev1.IPFamily
	for i, text := range s.Spec.CIDRs {
		prefix, err := netip.ParsePrefix(text)
		if err != nil || prefix.Addr().Is4In6() {
			d.failAt(fmt.Sprintf("spec.cidrs[%d]", i), "%q is not a CIDR", text)
			return true
		}
		families = append(families, familyOf(prefix.Addr()))
	}
	if n := len(families); n == 0 || n > 2 || n == 2 && families[0] == families[1] {
		d.failAt("spec.cidrs", "want one CIDR, or one of each family")
	}
	return true
}

func (d *document) checkAffinityTimeout(c *corev1.SessionAffinityConfig) {
	if c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		d.checkRange("spec.sessionAffinityConfig.clientIP.timeoutSeconds", *c.ClientIP.TimeoutSeconds, 1, 86400)
	}
}

func (d *document) checkClusterIPs(spec *corev1.ServiceSpec) {
	switch {
	case spec.ClusterIP == "":
		d.fail(find(d.root, "spec"), "spec.clusterIP is missing: there is no API server that would allocate one; set an address, or None for a headless Service")
		return
	case spec.ClusterIP != spec.ClusterIPs[0]:
		d.failAt("spec.clusterIPs", "the first one must be the same as spec.clusterIP")
		return
	case spec.ClusterIP == corev1.ClusterIPNone:
		return
	}
	var families []corev1.IPFamily
	for i, ip := range spec.ClusterIPs {
		addr, err := netip.ParseAddr(ip)
		if err != nil || addr.Zone() != "" || addr.Is4In6() {
			path := fmt.Sprintf("spec.clusterIPs[%d]", i)
			if i == 0 && find(d.root, path) == find(d.root, "spec") {
				path = "spec.clusterIP"
			}
			d.failAt(path, "%q is not an IP address", ip)
			return
		}
		families = append(families, familyOf(addr))
	}
	if len(families) > 2 || len(families) == 2 && families[0] == families[1] {
		d.failAt("spec.clusterIPs", "want at most one address of each family")
	} else if !slices.Equal(families, spec.IPFamilies) {
		d.failAt("spec.ipFamilies", "must be %v, as the addresses in spec.clusterIPs", families)
	}
}

func (d *document) checkServicePorts(ports []corev1.ServicePort) {
	type portKey struct {
		port     int32
		protocol corev1.Protocol
	}
	names, numbers := map[string]int{}, map[portKey]int{}
	for i, p := range ports {
		path := fmt.Sprintf("spec.ports[%d]", i)
		d.checkPortName(path, p.Name)
		checkEnum(d, path+".protocol", p.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
		d.checkRange(path+".port", p.Port, 1, 65535)
		d.checkRange(path+".nodePort", p.NodePort, 0, 65535)
		if p.Name == "" && len(ports) > 1 {
			d.failAt(path+".name", "is missing: a Service with several ports must name them")
		} else if other, ok := names[p.Name]; ok {
			d.failAt(path+".name", "%q is the name of spec.ports[%d] already", p.Name, other)
		}
		if other, ok := numbers[portKey{p.Port, p.Protocol}]; ok {
			d.failAt(path+".port", "%s %d is spec.ports[%d] already", p.Protocol, p.Port, other)
		}
		names[p.Name], numbers[portKey{p.Port, p.Protocol}] = i, i
	}
}

func (d *document) checkPortName(path, name string) {
	if name != "" {
		d.checkName(path+".name", name, validation.IsDNS1123Label)
	}
}

// checkName reports a name that breaks its rule. Names become names of kernel objects; they cannot be left unchecked.
func (d *document) checkName(path, name string, rule func(string) []string) {
	if faults := rule(name); len(faults) > 0 {
		d.failAt(path, "%q is not a valid name: %s", name, strings.Join(faults, "; "))
	}
}

func (d *document) checkRange(path string, n, least, most int32) {
	if n < least || n > most {
		d.failAt(path, "%d is not between %d and %d", n, least, most)
	}
}

func checkEnum[T ~string](d *document, path string, value T, allowed ...T) {
	if !slices.Contains(allowed, value) {
		d.failAt(path, "%q is not one of %q", value, allowed)
	}
}
