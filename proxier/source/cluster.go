// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"math"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/proxier/apiclient"
)

// Cluster lists and watches at an API server: the Services and EndpointSlices of all namespaces that kube-proxy
// would look at, one Node, and the ServiceCIDRs. It does not keep the objects.
//
// Nothing waits for ServiceCIDRs: where the API server does not have that API (networking.k8s.io/v1, from Kubernetes 1.33 on) or
// forbids to list them, the sink is told once that there are none, and Warn is told once. What is forbidden is tried again with
// the usual backoff, what does not exist every ten minutes.
type Cluster struct {
	// Client reaches the API server.
	Client *apiclient.Client
	// NodeName is the Node to watch. If it is empty, no Node is watched and the sink is told once that there is none.
	NodeName string
	// ServiceProxyName chooses among Services by their label service.kubernetes.io/service-proxy-name: those that have this name
	// in it or, if it is empty, those without the label. The EndpointSlices are those of the Services, whatever labels they have.
	ServiceProxyName string
	// Warn, if not nil, is told why a list or watch failed; it is tried again with backoff (0.8 s, doubling up to 15 s, and up to
	// half of that longer).
	// It may be called from several goroutines at a time.
	Warn func(error)
}

// Run watches until ctx ends. It fails only if ServiceProxyName cannot be a label: an API server that cannot be reached is
// reported and tried again.
func (c Cluster) Run(ctx context.Context, sink Sink) error {
	if err := ProxyName(c.ServiceProxyName).Validate(); err != nil {
		return err
	}
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
		func() {
			c.followServiceCIDRs(ctx, store[*networkingv1.ServiceCIDR]{
				mu: mu, replace: sink.ReplaceServiceCIDRs, update: sink.UpdateServiceCIDR,
				remove: func(_, name string) { sink.DeleteServiceCIDR(name) },
			})
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
func reflect(ctx context.Context, with reflected, expected any, s cache.ReflectorStore) {
	for ctx.Err() == nil {
		reflectOnce(ctx, with, expected, s)
	}
}

// reflectOnce runs a reflector until another one is to begin, or ctx ends.
func reflectOnce(ctx context.Context, with reflected, expected any, s cache.ReflectorStore) {
	ctx, stop := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	defer renewing.Wait()
	defer stop()
	renewing.Go(func() {
		select {
		case <-with.renew:
			stop()
		case <-ctx.Done():
		}
	})
	options := cache.ReflectorOptions{Clock: contextClock{ctx: ctx}, Logger: new(klog.Logger), Backoff: &wait.Backoff{
		Duration: firstDelay, Cap: longestDelay, Steps: math.MaxInt32, Factor: 2, Jitter: delayJitter,
	}}
	cache.NewReflectorWithOptions(with.ListerWatcher, expected, s, options).RunWithContext(ctx)
}

func (c Cluster) services() reflected {
	api := c.Client.Services(metav1.NamespaceAll)
	selector := ProxyName(c.ServiceProxyName).selector()
	notHeadless := fieldSelector{text: fields.OneTermNotEqualSelector("spec.clusterIP", corev1.ClusterIPNone).String()}
	return listWatch(c, resource{kind: "Services", plural: "services", is: of[*corev1.Service], namespaced: true}, withFields(&notHeadless, api.List), withFields(&notHeadless, api.Watch),
		func(o *metav1.ListOptions) { o.LabelSelector = selector })
}

func (c Cluster) endpointSlices() reflected {
	api := c.Client.EndpointSlices(metav1.NamespaceAll)
	return listWatch(c, resource{kind: "EndpointSlices", plural: "endpointslices", group: discoveryv1.GroupName,
		is: of[*discoveryv1.EndpointSlice], namespaced: true}, api.List, api.Watch,
		func(o *metav1.ListOptions) { o.LabelSelector = "!" + corev1.IsHeadlessService })
}

// fieldSelector saves work, but must not be needed.
type fieldSelector struct {
	text    string
	refused atomic.Bool // by the API server, which is too old to know the field
}

// withFields makes a request with a field selector, and without where that is refused.
func withFields[T any](
	s *fieldSelector, request func(context.Context, metav1.ListOptions) (T, error),
) func(context.Context, metav1.ListOptions) (T, error) {
	return func(ctx context.Context, options metav1.ListOptions) (T, error) {
		if !s.refused.Load() {
			with := options
			with.FieldSelector = s.text
			out, err := request(ctx, with)
			if !apierrors.IsBadRequest(err) {
				return out, err
			}
			s.refused.Store(true)
		}
		return request(ctx, options)
	}
}

func (c Cluster) nodes() reflected {
	api := c.Client.Nodes()
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, c.NodeName).String()
	return listWatch(c, resource{kind: "Node " + c.NodeName, plural: "nodes", is: of[*corev1.Node]}, api.List, api.Watch,
		func(o *metav1.ListOptions) { o.FieldSelector = selector })
}
