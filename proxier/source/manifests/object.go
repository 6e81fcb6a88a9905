// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/proxier/source"
)

// kind is a kind of object, as it is called in manifests.
type kind string

const (
	kindNode          kind = "Node"
	kindService       kind = "Service"
	kindEndpointSlice kind = "EndpointSlice"
	kindServiceCIDR   kind = "ServiceCIDR"
)

// namespaced says whether objects of a kind are in namespaces.
func (k kind) namespaced() bool { return k != kindNode && k != kindServiceCIDR }

// key identifies an object.
type key struct {
	kind      kind
	namespace string // empty for kinds that have none
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

// object is one definition in a file. Its value is a *corev1.Service, *discoveryv1.EndpointSlice, *corev1.Node or *networkingv1.ServiceCIDR;
// nil once it was applied, for all of them together take much memory.
type object struct {
	key   key
	line  int // where it starts
	sum   sum // of the value
	value metav1.Object
}

// sum stands for a value: equal values have equal sums, and others others.
type sum [sha256.Size]byte

// sumOf returns the sum of an object.
func sumOf(o metav1.Object) (sum, error) {
	data, err := json.Marshal(o)
	return sha256.Sum256(data), err
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
	case !c.key.kind.namespaced():
		return 1
	case c.key.kind == kindService:
		return 2
	}
	return 3
}

func (c change) send(sink source.Sink) {
	switch o := c.object.(type) {
	case *corev1.Service:
		sink.UpdateService(o)
	case *discoveryv1.EndpointSlice:
		sink.UpdateEndpointSlice(o)
	case *corev1.Node:
		sink.UpdateNode(o)
	case *networkingv1.ServiceCIDR:
		sink.UpdateServiceCIDR(o)
	default:
		c.sendDelete(sink)
	}
}

func (c change) sendDelete(sink source.Sink) {
	switch c.key.kind {
	case kindService:
		sink.DeleteService(c.key.namespace, c.key.name)
	case kindEndpointSlice:
		sink.DeleteEndpointSlice(c.key.namespace, c.key.name)
	case kindNode:
		sink.DeleteNode(c.key.name)
	case kindServiceCIDR:
		sink.DeleteServiceCIDR(c.key.name)
	}
}

// objectsOf sorts the changes from nothing by kind.
func objectsOf(changes []change) Objects {
	var all Objects
	for _, c := range changes {
		switch o := c.object.(type) {
		case *corev1.Service:
			all.Services = append(all.Services, o)
		case *discoveryv1.EndpointSlice:
			all.EndpointSlices = append(all.EndpointSlices, o)
		case *corev1.Node:
			all.Nodes = append(all.Nodes, o)
		case *networkingv1.ServiceCIDR:
			all.ServiceCIDRs = append(all.ServiceCIDRs, o)
		}
	}
	return all
}
