// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// The labels by which a Service or EndpointSlice is left to somebody else. The slice controllers copy the first from the Service.
const (
	labelServiceProxyName = "service.kubernetes.io/service-proxy-name"
	labelHeadless         = corev1.IsHeadlessService

	serviceSelector       = "!" + labelServiceProxyName
	endpointSliceSelector = "!" + labelHeadless + ",!" + labelServiceProxyName
)

// Cluster lists and watches at an API server: the Services and EndpointSlices of all namespaces that kube-proxy
// would look at, and one Node. It does not keep the objects.
type Cluster struct {
	// Client reaches the API server.
	Client kubernetes.Interface
	// NodeName is the Node to watch. If it is empty, no Node is watched and the sink is told once that there is none.
	NodeName string
	// Warn, if not nil, is told why a list or watch failed; it is tried again with backoff (0.8 s, doubling up to 30 s).
	// It may be called from several goroutines at a time.
	Warn func(error)
}

// Run watches until ctx ends. It always returns nil: an API server that cannot be reached is reported and tried again.
func (c Cluster) Run(ctx context.Context, sink Sink) error {
	// The zero Logger discards: Warn is told all that matters, and libraries do not log.
	ctx = klog.NewContext(ctx, klog.Logger{})
	mu := new(sync.Mutex)
	run := []func(){
		func() {
			reflect(ctx, c.services(), &corev1.Service{}, store[*corev1.Service]{
				mu: mu, replace: sink.ReplaceServices, update: sink.UpdateService, remove: sink.DeleteService,
			})
		},
		func() {
			reflect(ctx, c.endpointSlices(), &discoveryv1.EndpointSlice{}, store[*discoveryv1.EndpointSlice]{
				mu: mu, replace: sink.ReplaceEndpointSlices, update: sink.UpdateEndpointSlice, remove: sink.DeleteEndpointSlice,
			})
		},
		func() {
			nodes := store[*corev1.Node]{
				mu: mu, replace: sink.ReplaceNodes, update: sink.UpdateNode, remove: func(_, name string) { sink.DeleteNode(name) },
			}
			if c.NodeName == "" {
				nodes.call(func() { sink.ReplaceNodes(nil) })
				return
			}
			reflect(ctx, c.nodes(), &corev1.Node{}, nodes)
		},
	}
	var group sync.WaitGroup
	for _, f := range run {
		group.Go(f)
	}
	group.Wait()
	return nil
}

// reflect runs a reflector until ctx ends.
func reflect(ctx context.Context, lw cache.ListerWatcher, expected any, s cache.ReflectorStore) {
	options := cache.ReflectorOptions{Clock: contextClock{ctx: ctx}, Logger: new(klog.Logger)}
	cache.NewReflectorWithOptions(lw, expected, s, options).RunWithContext(ctx)
}

func (c Cluster) services() cache.ListerWatcher {
	api := c.Client.CoreV1().Services(metav1.NamespaceAll)
	return listWatch(c, resource{kind: "Services", plural: "services"}, api.List, api.Watch,
		func(o *metav1.ListOptions) { o.LabelSelector = serviceSelector })
}

func (c Cluster) endpointSlices() cache.ListerWatcher {
	api := c.Client.DiscoveryV1().EndpointSlices(metav1.NamespaceAll)
	return listWatch(c, resource{kind: "EndpointSlices", plural: "endpointslices", group: discoveryv1.GroupName}, api.List, api.Watch,
		func(o *metav1.ListOptions) { o.LabelSelector = endpointSliceSelector })
}

func (c Cluster) nodes() cache.ListerWatcher {
	api := c.Client.CoreV1().Nodes()
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, c.NodeName).String()
	return listWatch(c, resource{kind: "Node " + c.NodeName, plural: "nodes"}, api.List, api.Watch,
		func(o *metav1.ListOptions) { o.FieldSelector = selector })
}
