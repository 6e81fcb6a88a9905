// SPDX-License-Identifier: Apache-2.0

// Package apiclient has clients of those APIs of Kubernetes that nftproxy uses. client-go's clientset has clients of all APIs, and
// with them all their types: a quarter of the program.
package apiclient

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
)

// Typed is a client of one kind of objects.
type Typed[T object, L runtime.Object] = gentype.ClientWithList[T, L]

type object interface {
	runtime.Object
	metav1.Object
}

// Client reaches an API server. All its clients share connections and the limit of requests.
type Client struct {
	core, discovery, networking, events, authorization rest.Interface

	parameters runtime.ParameterCodec
}

// New returns a Client. It sends nothing yet; an error says what is wrong with config.
func New(config *rest.Config) (*Client, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme, eventsv1.AddToScheme, authorizationv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	config = rest.CopyConfig(config)
	config.NegotiatedSerializer = rest.CodecFactoryForGeneratedClient(scheme, serializer.NewCodecFactory(scheme)).WithoutConversion()
	if config.UserAgent == "" {
		config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	if config.RateLimiter == nil && config.QPS > 0 {
		if config.Burst <= 0 {
			return nil, fmt.Errorf("burst is %d, but requests are limited to %g a second: give a burst of at least 1", config.Burst, config.QPS)
		}
		config.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(config.QPS, config.Burst)
	}
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	c := &Client{parameters: runtime.NewParameterCodec(scheme)}
	for _, group := range []struct {
		client  *rest.Interface
		version schema.GroupVersion
	}{
		{&c.core, corev1.SchemeGroupVersion}, {&c.discovery, discoveryv1.SchemeGroupVersion}, {&c.networking, networkingv1.SchemeGroupVersion},
		{&c.events, eventsv1.SchemeGroupVersion}, {&c.authorization, authorizationv1.SchemeGroupVersion},
	} {
		of := rest.CopyConfig(config)
		of.GroupVersion, of.APIPath = &group.version, "/apis"
		if group.version.Group == "" {
			of.APIPath = "/api"
		}
		if *group.client, err = rest.RESTClientForConfigAndClient(of, transport); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Services returns the client of a namespace's, or with "" of all.
func (c *Client) Services(namespace string) *Typed[*corev1.Service, *corev1.ServiceList] {
	return gentype.NewClientWithList("services", c.core, c.parameters, namespace,
		func() *corev1.Service { return &corev1.Service{} }, func() *corev1.ServiceList { return &corev1.ServiceList{} })
}

// EndpointSlices returns the client of a namespace's, or with "" of all.
func (c *Client) EndpointSlices(namespace string) *Typed[*discoveryv1.EndpointSlice, *discoveryv1.EndpointSliceList] {
	return gentype.NewClientWithList("endpointslices", c.discovery, c.parameters, namespace,
		func() *discoveryv1.EndpointSlice { return &discoveryv1.EndpointSlice{} },
		func() *discoveryv1.EndpointSliceList { return &discoveryv1.EndpointSliceList{} })
}

// Nodes returns the client of Nodes.
func (c *Client) Nodes() *Typed[*corev1.Node, *corev1.NodeList] {
	return gentype.NewClientWithList("nodes", c.core, c.parameters, "",
		func() *corev1.Node { return &corev1.Node{} }, func() *corev1.NodeList { return &corev1.NodeList{} })
}

// Pods returns the client of a namespace's.
func (c *Client) Pods(namespace string) *Typed[*corev1.Pod, *corev1.PodList] {
	return gentype.NewClientWithList("pods", c.core, c.parameters, namespace,
		func() *corev1.Pod { return &corev1.Pod{} }, func() *corev1.PodList { return &corev1.PodList{} })
}

// PodAddrs returns the addresses that a pod has, without those that cannot be read.
func PodAddrs(p *corev1.Pod) (out []netip.Addr) {
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// Exec is a command that is run in a container of a pod.
type Exec struct {
	Namespace, Pod, Container string
	Command                   []string
	// Input says that it has standard input, and Terminal that all is on a terminal, where errors and output are one.
	Input, Terminal bool
}

// ExecURL is where a command is run.
func (c *Client) ExecURL(e *Exec) *url.URL {
	r := c.core.Post().Resource("pods").Namespace(e.Namespace).Name(e.Pod).SubResource("exec").
		Param("container", e.Container).Param("stdout", "true").Param("stderr", strconv.FormatBool(!e.Terminal))
	if e.Input {
		r.Param("stdin", "true")
	}
	if e.Terminal {
		r.Param("tty", "true")
	}
	for _, word := range e.Command {
		r.Param("command", word)
	}
	return r.URL()
}

// ServiceCIDRs returns the client of ServiceCIDRs.
func (c *Client) ServiceCIDRs() *Typed[*networkingv1.ServiceCIDR, *networkingv1.ServiceCIDRList] {
	return gentype.NewClientWithList("servicecidrs", c.networking, c.parameters, "",
		func() *networkingv1.ServiceCIDR { return &networkingv1.ServiceCIDR{} },
		func() *networkingv1.ServiceCIDRList { return &networkingv1.ServiceCIDRList{} })
}

// Events returns the client of a namespace's.
func (c *Client) Events(namespace string) *Typed[*eventsv1.Event, *eventsv1.EventList] {
	return gentype.NewClientWithList("events", c.events, c.parameters, namespace,
		func() *eventsv1.Event { return &eventsv1.Event{} }, func() *eventsv1.EventList { return &eventsv1.EventList{} })
}

// MayI asks whether the client's user may do something.
func (c *Client) MayI(ctx context.Context, do authorizationv1.ResourceAttributes) (bool, error) {
	api := gentype.NewClient("selfsubjectaccessreviews", c.authorization, c.parameters, "",
		func() *authorizationv1.SelfSubjectAccessReview { return &authorizationv1.SelfSubjectAccessReview{} })
	review, err := api.Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &do},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return review.Status.Allowed, nil
}

// Version asks for the API server's version.
func (c *Client) Version(ctx context.Context) (*version.Info, error) {
	body, err := c.core.Get().AbsPath("/version").SetHeader("Accept", "application/json").Do(ctx).Raw()
	if err != nil {
		return nil, err
	}
	var info version.Info
	if err := json.Unmarshal(body, &info); err != nil {
		return nil, fmt.Errorf("read the API server's version: %w", err)
	}
	return &info, nil
}
