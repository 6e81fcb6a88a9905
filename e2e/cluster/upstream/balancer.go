// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// The addresses of load balancers, and the one that clients have outside of the nodes' network.
const (
	balancerRange  = "203.0.113.0/24"
	clientAddress  = "198.51.100.1/32"
	cleanup        = "service.kubernetes.io/load-balancer-cleanup" // the finalizer of a cloud's controller
	balancerPeriod = time.Second
)

// balancer gives Services of type LoadBalancer an address each and routes it, in the namespace outside, to the nodes:
// to all, or with externalTrafficPolicy Local to those whose health check says that they have endpoints.
type balancer struct {
	site   *site
	handle *netlink.Handle
	client net.IP
	lo     int
	byUID  map[types.UID]netip.Addr
	routes map[netip.Addr][]string // the nodes' addresses
}

// balance starts a load balancer. The caller must call stop.
func (s *site) balance(ctx context.Context) (stop func(), err error) {
	handle, err := s.Network.Outside.Netlink()
	if err != nil {
		return nil, err
	}
	b := &balancer{site: s, handle: handle, byUID: map[types.UID]netip.Addr{}, routes: map[netip.Addr][]string{}}
	if err := b.prepare(); err != nil {
		handle.Close()
		return nil, fmt.Errorf("prepare load balancer: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.run(ctx)
	}()
	return func() {
		cancel()
		<-done
		handle.Close()
	}, nil
}

// prepare makes the clients' address. What is sent to an address that no node serves is lost, as behind a real load balancer.
func (b *balancer) prepare() error {
	lo, err := b.handle.LinkByName("lo")
	if err != nil {
		return err
	}
	address, err := netlink.ParseAddr(clientAddress)
	if err != nil {
		return err
	}
	if err := b.handle.AddrReplace(lo, address); err != nil {
		return err
	}
	b.client, b.lo = address.IP, lo.Attrs().Index
	_, dst, err := net.ParseCIDR(balancerRange)
	if err != nil {
		return err
	}
	if err := b.handle.RouteReplace(&netlink.Route{Dst: dst, LinkIndex: b.lo, Src: b.client, Scope: netlink.SCOPE_LINK}); err != nil {
		return err
	}
	return b.site.Network.Outside.Do(func() error { // a path for each connection
		return os.WriteFile("/proc/sys/net/ipv4/fib_multipath_hash_policy", []byte("1"), 0)
	})
}

func (b *balancer) run(ctx context.Context) {
	for {
		if err := b.sync(ctx); err != nil && ctx.Err() == nil {
			log.Printf("load balancer: %v", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(balancerPeriod):
		}
	}
}

func (b *balancer) sync(ctx context.Context) error {
	list, err := b.site.Client().CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	gone := map[types.UID]bool{}
	for uid := range b.byUID {
		gone[uid] = true
	}
	for i := range list.Items {
		svc := &list.Items[i]
		if svc.Spec.LoadBalancerClass != nil {
			continue
		}
		if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.DeletionTimestamp == nil {
			delete(gone, svc.UID)
			err = b.serve(ctx, svc)
		} else {
			err = b.release(ctx, svc)
		}
		if err != nil {
			log.Printf("load balancer of %s/%s: %v", svc.Namespace, svc.Name, err)
		}
	}
	for uid := range gone {
		b.forget(uid)
	}
	return nil
}

// serve gives a Service what it lacks: the finalizer, an address, routes.
func (b *balancer) serve(ctx context.Context, svc *corev1.Service) error {
	services := b.site.Client().CoreV1().Services(svc.Namespace)
	if !slices.Contains(svc.Finalizers, cleanup) {
		update := svc.DeepCopy()
		update.Finalizers = append(update.Finalizers, cleanup)
		if _, err := services.Update(ctx, update, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	ip, ok := b.byUID[svc.UID]
	if !ok {
		ip = b.free()
		b.byUID[svc.UID] = ip
	}
	var via []string
	for _, n := range b.site.Network.Nodes {
		if port := svc.Spec.HealthCheckNodePort; port == 0 || b.healthy(ctx, n, port) {
			via = append(via, n.V4.String())
		}
	}
	if len(via) > 1 && svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		via = via[:1] // one client, one node
	}
	if err := b.route(ip, via); err != nil {
		return err
	}
	if in := svc.Status.LoadBalancer.Ingress; len(in) == 1 && in[0].IP == ip.String() {
		return nil
	}
	patch := fmt.Appendf(nil, `{"status":{"loadBalancer":{"ingress":[{"ip":%q,"ipMode":"VIP"}]}}}`, ip)
	_, err := services.Patch(ctx, svc.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// release takes everything away from a Service that has been one with a load balancer.
func (b *balancer) release(ctx context.Context, svc *corev1.Service) error {
	i := slices.Index(svc.Finalizers, cleanup)
	if i < 0 {
		return nil
	}
	b.forget(svc.UID)
	services := b.site.Client().CoreV1().Services(svc.Namespace)
	if len(svc.Status.LoadBalancer.Ingress) > 0 && svc.DeletionTimestamp == nil {
		if _, err := services.Patch(ctx, svc.Name, types.MergePatchType, []byte(`{"status":{"loadBalancer":{"ingress":null}}}`), metav1.PatchOptions{}, "status"); err != nil {
			return err
		}
	}
	patch := fmt.Appendf(nil, `{"metadata":{"$deleteFromPrimitiveList/finalizers":[%q]}}`, cleanup)
	_, err := services.Patch(ctx, svc.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return err
}

func (b *balancer) forget(uid types.UID) {
	if ip, ok := b.byUID[uid]; ok {
		delete(b.byUID, uid)
		if err := b.route(ip, nil); err != nil {
			log.Printf("load balancer: release %s: %v", ip, err)
		}
	}
}

// free returns the first address that no Service has.
func (b *balancer) free() netip.Addr {
	ip := netip.MustParsePrefix(balancerRange).Addr().Next()
	for taken := true; taken; {
		ip = ip.Next()
		taken = false
		for _, other := range b.byUID {
			taken = taken || other == ip
		}
	}
	return ip
}

// healthy asks a node whether it has endpoints of a Service with that health check.
func (b *balancer) healthy(ctx context.Context, node netns.Host, port int32) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		doErr := b.site.Network.Outside.Do(func() error {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
			return err
		})
		return conn, doErr
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d/healthz", node.V4, port), nil)
	if err != nil {
		return false
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// route leads an address to nodes, or nowhere.
func (b *balancer) route(ip netip.Addr, via []string) error {
	if before, ok := b.routes[ip]; ok && slices.Equal(before, via) {
		return nil
	}
	route := &netlink.Route{Dst: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(32, 32)}, Src: b.client}
	if len(via) == 0 {
		had := len(b.routes[ip]) > 0
		delete(b.routes, ip)
		if !had {
			return nil
		}
		return b.handle.RouteDel(route)
	}
	for _, v := range via {
		route.MultiPath = append(route.MultiPath, &netlink.NexthopInfo{Gw: net.ParseIP(v)})
	}
	if err := b.handle.RouteReplace(route); err != nil {
		return fmt.Errorf("route %s to %v: %w", ip, via, err)
	}
	b.routes[ip] = via
	return nil
}
