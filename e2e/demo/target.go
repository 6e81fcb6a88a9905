// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/nftproxy/nftproxy/e2e/traffic"
	"github.com/nftproxy/nftproxy/proxier/source/manifests"
)

// target is one port of a service at one of its addresses, and what must answer
// there. It is worked out without any code of the proxy's.
type target struct {
	namespace string
	service   string
	protocol  traffic.Protocol
	address   netip.AddrPort
	backends  []netip.AddrPort // sorted; none: connections must be refused
}

// key tells targets apart.
func (t target) key() traffic.Endpoint {
	return traffic.Endpoint{Protocol: t.protocol, Address: t.address}
}

// readTargets returns what a directory of manifests asks for, by service and
// address. Unlike nftproxy it takes no manifest with a fault.
func readTargets(dir string) ([]target, error) {
	objects, errs := manifests.Source{Dir: dir}.Read()
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("read manifests: %w", err)
	}
	var list []target
	for _, s := range objects.Services {
		for _, ip := range s.Spec.ClusterIPs {
			addr, err := netip.ParseAddr(ip)
			if err != nil {
				continue // headless
			}
			for _, p := range s.Spec.Ports {
				list = append(list, newTarget(s, p, addr, objects.EndpointSlices))
			}
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("read manifests: no Service with a cluster IP is in %s", dir)
	}
	return list, nil
}

func newTarget(s *corev1.Service, p corev1.ServicePort, addr netip.Addr, endpointSlices []*discoveryv1.EndpointSlice) target {
	t := target{namespace: s.Namespace, service: s.Name, protocol: protocolOf(p.Protocol), address: netip.AddrPortFrom(addr, uint16(p.Port))}
	var ready, ending []netip.AddrPort
	for _, slice := range endpointSlices {
		if slice.Namespace != s.Namespace || slice.Labels[discoveryv1.LabelServiceName] != s.Name {
			continue
		}
		r, e := addresses(slice, p, addr.Is4())
		ready, ending = append(ready, r...), append(ending, e...)
	}
	t.backends = ready
	if len(ready) == 0 {
		t.backends = ending
	}
	slices.SortFunc(t.backends, netip.AddrPort.Compare)
	t.backends = slices.Compact(t.backends)
	return t
}

// addresses returns where a slice has endpoints for a port in one family: those
// that are ready, and those that end but still serve.
func addresses(slice *discoveryv1.EndpointSlice, p corev1.ServicePort, is4 bool) (ready, ending []netip.AddrPort) {
	for _, port := range slice.Ports {
		if *port.Name != p.Name || *port.Protocol != p.Protocol || port.Port == nil {
			continue
		}
		for _, e := range slice.Endpoints {
			addr, err := netip.ParseAddr(e.Addresses[0])
			if err != nil || addr.Is4() != is4 {
				continue
			}
			at := netip.AddrPortFrom(addr, uint16(*port.Port))
			switch c := e.Conditions; {
			case c.Ready == nil || *c.Ready:
				ready = append(ready, at)
			case c.Serving != nil && *c.Serving && c.Terminating != nil && *c.Terminating:
				ending = append(ending, at)
			}
		}
	}
	return ready, ending
}

func protocolOf(p corev1.Protocol) traffic.Protocol {
	switch p {
	case corev1.ProtocolUDP:
		return traffic.UDP
	case corev1.ProtocolSCTP:
		return traffic.SCTP
	}
	return traffic.TCP
}

// backendPorts returns the ports at which backends must answer.
func backendPorts(targets []target) []uint16 {
	var ports []uint16
	for _, t := range targets {
		for _, b := range t.backends {
			ports = append(ports, b.Port())
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// changed returns those targets of after whose backends are others than before.
func changed(before, after []target) []target {
	old := map[traffic.Endpoint][]netip.AddrPort{}
	for _, t := range before {
		old[t.key()] = t.backends
	}
	return slices.DeleteFunc(slices.Clone(after), func(t target) bool { return slices.Equal(old[t.key()], t.backends) })
}
