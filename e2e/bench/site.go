// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/e2e/bench/report"
	"github.com/nftproxy/nftproxy/e2e/controlplane"
	"github.com/nftproxy/nftproxy/e2e/netns"
)

const (
	nodeName  = "node"
	namespace = "shop"
	// pods is how many backends there are: half of them serve all Services, the other half
	// those that are changed.
	pods = 40
)

// network is a cluster of namespaces with servers in its pods.
type network struct {
	*netns.Cluster
	backends *backends
}

// newNetwork makes one. The caller closes it, whatever the error.
func newNetwork() (n network, err error) {
	if n.Cluster, err = netns.NewCluster(netns.Config{LocalPods: 1, RemotePods: pods}); err != nil {
		return n, err
	}
	n.backends, err = serve(n.Remote.NS, n.RemotePods)
	return n, err
}

func (n network) close() error {
	var errs []error
	if n.backends != nil {
		errs = append(errs, n.backends.close())
	}
	if n.Cluster != nil {
		errs = append(errs, n.Cluster.Close())
	}
	return errors.Join(errs...)
}

// site is the network of the proxies, with a control plane that holds the objects.
type site struct {
	network
	// bare is its twin, whose node never has any rules: in turn with it, traffic there tells
	// what rules cost at that time on this machine.
	bare network
	// oneRule is another twin: its node has one rule, for one address.
	oneRule  network
	cp       *controlplane.ControlPlane
	dir      string
	services int // so far
}

// newSite makes everything but the Services. The caller closes it.
func newSite(ctx context.Context) (*site, error) {
	s := &site{}
	var err error
	if s.network, err = newNetwork(); err == nil {
		s.bare, err = newNetwork()
	}
	if err == nil {
		s.oneRule, err = newNetwork()
	}
	if err == nil {
		err = s.oneRule.writeOneRule(s.oneRule.RemotePods[0].V4)
	}
	if err == nil {
		err = s.populate(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *site) populate(ctx context.Context) (err error) {
	if err := s.refuseServices(); err != nil {
		return err
	}
	// Reset connections are forgotten in a second instead of ten: they come by the thousand.
	if err := s.Node.SetSysctl("netfilter/nf_conntrack_tcp_timeout_close", "1"); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "nftproxy-bench-"); err != nil {
		return err
	}
	s.cp, err = controlplane.Start(ctx, controlplane.Config{NetNS: s.Outside.Fd(), Address: s.Outside.V4, Dir: s.dir})
	if err != nil {
		return err
	}
	if err := s.cp.CreateNode(ctx, controlplane.NodeSpec{Name: nodeName, IPs: []netip.Addr{s.Node.V4, s.Node.V6}}); err != nil {
		return err
	}
	if err := s.cp.EnsureNamespace(ctx, namespace); err != nil {
		return err
	}
	for _, svc := range []*corev1.Service{probeService(), streamService()} {
		if err := s.create(ctx, svc, s.addresses(0, 1)); err != nil {
			return err
		}
	}
	return nil
}

// refuseServices makes outside answer that a ClusterIP cannot be reached where no proxy
// has translated it, every time, instead of sending the packet back.
func (s *site) refuseServices() error {
	if err := s.Outside.SetSysctl("ipv4/icmp_ratemask", "0"); err != nil {
		return err
	}
	h, err := s.Outside.Netlink()
	if err != nil {
		return err
	}
	defer h.Close()
	to, err := netlink.ParseIPNet(netns.ServiceCIDR4)
	if err != nil {
		return err
	}
	if err := h.RouteReplace(&netlink.Route{Dst: to, Type: unreachable}); err != nil {
		return fmt.Errorf("make ClusterIPs unreachable outside the node: %w", err)
	}
	return nil
}

func (s *site) close() error {
	var errs []error
	if s.cp != nil {
		errs = append(errs, s.cp.Stop())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(append(errs, s.network.close(), s.bare.close(), s.oneRule.close())...)
}

// clear removes all rules and flows from the node: what no proxy has been on.
func (s *site) clear() error {
	return s.Node.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		conn.FlushRuleset()
		if err := conn.Flush(); err != nil {
			return fmt.Errorf("remove all rules of the node: %w", err)
		}
		return forgetFlows()
	})
}

// forgetFlows empties connection tracking in the namespace of the calling thread.
func forgetFlows() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }

// grow creates Services until there are n.
func (s *site) grow(ctx context.Context, n int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := s.services; i < n; i++ {
		g.Go(func() error { return s.create(ctx, webService(i), s.usual(i)) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	s.services = max(s.services, n)
	return nil
}

// usual returns the endpoints of the i-th Service, changed its others.
func (s *site) usual(i int) []netip.Addr   { return s.addresses(i%(pods/2), endpoints) }
func (s *site) changed(i int) []netip.Addr { return s.addresses(pods/2+i%(pods/2), endpoints) }

// addresses returns those of n pods, from one on, of the half that it is in.
func (s *site) addresses(first, n int) []netip.Addr {
	var out []netip.Addr
	half := first / (pods / 2) * (pods / 2)
	for i := range n {
		out = append(out, s.RemotePods[half+(first+i)%(pods/2)].V4)
	}
	return out
}

func (s *site) create(ctx context.Context, svc *corev1.Service, to []netip.Addr) error {
	if _, err := s.cp.Client().CoreV1().Services(namespace).Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err := s.cp.Client().DiscoveryV1().EndpointSlices(namespace).Create(ctx, slice(svc, to), metav1.CreateOptions{})
	return err
}

// remove deletes a Service and its endpoints.
func (s *site) remove(ctx context.Context, svc *corev1.Service) error {
	return errors.Join(s.cp.Client().CoreV1().Services(namespace).Delete(ctx, svc.Name, metav1.DeleteOptions{}),
		s.cp.Client().DiscoveryV1().EndpointSlices(namespace).Delete(ctx, svc.Name, metav1.DeleteOptions{}))
}

// update replaces the endpoints of a Service.
func (s *site) update(ctx context.Context, svc *corev1.Service, to []netip.Addr) error {
	_, err := s.cp.Client().DiscoveryV1().EndpointSlices(namespace).Update(ctx, slice(svc, to), metav1.UpdateOptions{})
	return err
}

// webService returns the i-th Service, the i-th in order of address and of name.
func webService(i int) *corev1.Service {
	return newService(fmt.Sprintf("web-%05d", i), i+256, servicePort("http", corev1.ProtocolTCP, askPort))
}

// The Services besides: of the changes, and for streams.
func probeService() *corev1.Service {
	return newService("zz-probe", 200<<8, servicePort("http", corev1.ProtocolTCP, askPort))
}

func streamService() *corev1.Service {
	return newService("zz-stream", 200<<8+1, servicePort("tcp", corev1.ProtocolTCP, streamPort), servicePort("udp", corev1.ProtocolUDP, packetPort))
}

// scheduledService is spread by one of report.Schedulers, where the proxy knows that. It has the endpoints of the first Service.
func scheduledService(scheduler string) *corev1.Service {
	svc := newService("zz-"+scheduler, 200<<8+2+slices.Index(report.Schedulers(), scheduler), servicePort("http", corev1.ProtocolTCP, askPort))
	svc.Annotations = map[string]string{"nftproxy.io/scheduler": scheduler}
	return svc
}

func newService(name string, address int, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: netns.ServiceAddr(netns.IPv4, address).String(), Ports: ports},
	}
}

// servicePort is the same on the Service and on its endpoints' side.
func servicePort(name string, p corev1.Protocol, port int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Protocol: p, Port: port}
}

// addr is a port of a Service.
func addr(svc *corev1.Service, port int32) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(svc.Spec.ClusterIP), uint16(port))
}

func slice(svc *corev1.Service, to []netip.Addr) *discoveryv1.EndpointSlice {
	es := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: svc.Name, Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, p := range svc.Spec.Ports {
		es.Ports = append(es.Ports, discoveryv1.EndpointPort{Name: ptr.To(p.Name), Port: ptr.To(p.Port), Protocol: ptr.To(p.Protocol)})
	}
	for _, a := range to {
		es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{Addresses: []string{a.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}, NodeName: ptr.To("remote"),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: svc.Name + "-" + a.String()}})
	}
	return es
}
