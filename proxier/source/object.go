// SPDX-License-Identifier: Apache-2.0

package source

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kind is a kind of object, as it is called in manifests.
type kind string

const (
	kindNode          kind = "Node"
	kindService       kind = "Service"
	kindEndpointSlice kind = "EndpointSlice"
)

// key identifies an object.
type key struct {
	kind      kind
	namespace string // empty for Nodes
	name      string
}

func (k key) String() string {
	if k.namespace == "" {
		return string(k.kind) + " " + k.name
	}
	return string(k.kind) + " " + k.namespace + "/" + k.name
}

func (k key) compare(other key) int {
	return cmp.Or(cmp.Compare(k.namespace, other.namespace), cmp.Compare(k.name, other.name), cmp.Compare(k.kind, other.kind))
}

// object is one definition in a file. Its value is a *corev1.Service, *discoveryv1.EndpointSlice or *corev1.Node.
type object struct {
	key   key
	line  int // where it starts
	value metav1.Object
}

// change is one call to a sink.
type change struct {
	key    key
	object metav1.Object // nil: the object is gone
}

// rank orders the calls that are made for one change of the directory: what goes makes room (an address may move from one Service
// to another), and an EndpointSlice comes after its Service.
func (c change) rank() int {
	switch {
	case c.object == nil:
		return 0
	case c.key.kind == kindNode:
		return 1
	case c.key.kind == kindService:
		return 2
	}
	return 3
}

func (c change) send(sink Sink) {
	switch o := c.object.(type) {
	case *corev1.Service:
		sink.UpdateService(o)
	case *discoveryv1.EndpointSlice:
		sink.UpdateEndpointSlice(o)
	case *corev1.Node:
		sink.UpdateNode(o)
	default:
		c.sendDelete(sink)
	}
}

func (c change) sendDelete(sink Sink) {
	switch c.key.kind {
	case kindService:
		sink.DeleteService(c.key.namespace, c.key.name)
	case kindEndpointSlice:
		sink.DeleteEndpointSlice(c.key.namespace, c.key.name)
	case kindNode:
		sink.DeleteNode(c.key.name)
	}
}

// split sorts the changes from nothing into lists.
func split(changes []change) (services []*corev1.Service, endpointSlices []*discoveryv1.EndpointSlice, nodes []*corev1.Node) {
	for _, c := range changes {
		switch o := c.object.(type) {
		case *corev1.Service:
			services = append(services, o)
		case *discoveryv1.EndpointSlice:
			endpointSlices = append(endpointSlices, o)
		case *corev1.Node:
			nodes = append(nodes, o)
		}
	}
	return services, endpointSlices, nodes
}
