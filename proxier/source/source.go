// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// Sink receives what a source sees. The source makes one call at a time, during its whole life.
// The first Replace of a kind says that the first full list of that kind is in.
// Objects are shared: neither side may change them after the call.
type Sink interface {
	// ReplaceServices says that exactly these Services exist.
	ReplaceServices([]*corev1.Service)
	// UpdateService is called for an added and for a changed Service.
	UpdateService(*corev1.Service)
	// DeleteService names a Service that is gone; it may be one that the sink never saw.
	DeleteService(namespace, name string)

	// ReplaceEndpointSlices says that exactly these EndpointSlices exist.
	ReplaceEndpointSlices([]*discoveryv1.EndpointSlice)
	// UpdateEndpointSlice is called for an added and for a changed EndpointSlice.
	UpdateEndpointSlice(*discoveryv1.EndpointSlice)
	// DeleteEndpointSlice names an EndpointSlice that is gone; it may be one that the sink never saw.
	DeleteEndpointSlice(namespace, name string)

	// ReplaceNodes says that exactly these Nodes exist (as far as the source looks at Nodes).
	ReplaceNodes([]*corev1.Node)
	// UpdateNode is called for an added and for a changed Node.
	UpdateNode(*corev1.Node)
	// DeleteNode names a Node that is gone; it may be one that the sink never saw.
	DeleteNode(name string)

	// ReplaceServiceCIDRs says that exactly these ServiceCIDRs exist. Where they cannot be had, it is told that there are none.
	ReplaceServiceCIDRs([]*networkingv1.ServiceCIDR)
	// UpdateServiceCIDR is called for an added and for a changed ServiceCIDR.
	UpdateServiceCIDR(*networkingv1.ServiceCIDR)
	// DeleteServiceCIDR names a ServiceCIDR that is gone; it may be one that the sink never saw.
	DeleteServiceCIDR(name string)
}

// Source feeds a Sink.
type Source interface {
	// Run feeds sink until ctx ends, and then returns nil. An error means that the source cannot start or go on at all;
	// faults that leave it running are reported in another way.
	Run(ctx context.Context, sink Sink) error
}

var _ Source = Cluster{}
