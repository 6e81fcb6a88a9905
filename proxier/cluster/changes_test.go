// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// clusterIP returns a Service default/NAME at an address and port 80.
func clusterIP(name, ip string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	s.Spec.ClusterIP, s.Spec.Ports = ip, []corev1.ServicePort{{Port: 80}}
	return s
}

// sliceOf returns an EndpointSlice of default/NAME, of port 8080, which a change at a time has triggered.
func sliceOf(name string, at time.Time, addrs ...string) *discoveryv1.EndpointSlice {
	es := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name,
		Labels: map[string]string{discoveryv1.LabelServiceName: name}, Annotations: map[string]string{corev1.EndpointsLastChangeTriggerTime: at.Format(time.RFC3339Nano)}}}
	es.Ports = []discoveryv1.EndpointPort{{Port: ptr.To[int32](8080)}}
	for _, a := range addrs {
		es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return es
}

// listed returns a Cluster with full lists, which were taken.
func listed(t *testing.T, services ...*corev1.Service) (*Cluster, *Sink, *listener) {
	t.Helper()
	c, l := listening(Config{NodeName: "n1", NodeIPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}})
	s := NewSink(c)
	for _, give := range []func(){
		func() { s.ReplaceServices(services) }, func() { s.ReplaceEndpointSlices(nil) }, func() { s.ReplaceServiceCIDRs(nil) }, func() { s.ReplaceNodes(nil) },
	} {
		if c.Missing() != List {
			t.Fatal("no list is missing, but not all are in")
		}
		give()
	}
	if c.Missing() != NodeObject {
		t.Fatalf("missing is %d, want the Node object", c.Missing())
	}
	take(c)
	c.Faults()
	l.woken()
	return c, s, l
}

// take takes what has changed.
func take(c *Cluster) Changes {
	ch, view := c.Take()
	view.Close()
	return ch
}

// input returns an owner's Input as it is now.
func input(c *Cluster, o rules.Owner) Input {
	_, view := c.Take()
	defer view.Close()
	return view.Input(o)
}

func names(ch Changes) string {
	var out []string
	for _, o := range ch.Owners {
		name := o.Name
		if o.Gone {
			name += " gone"
		}
		out = append(out, name)
	}
	return strings.Join(out, ", ")
}

// TestTake: each change comes out once, and again if it is put back, with what is new.
func TestTake(t *testing.T) {
	t.Parallel()
	c, s, l := listed(t, clusterIP("a", "10.96.0.1"), clusterIP("b", "10.96.0.2"))
	later := c.began.Add(time.Hour)
	if got := names(take(c)); got != "" {
		t.Errorf("taken: %s, want nothing", got)
	}
	s.DeleteService("default", "b")
	s.UpdateEndpointSlice(sliceOf("a", later, "10.244.0.1"))
	if !l.woken() {
		t.Error("nobody was told")
	}
	if b := c.Backlog(); b != (Backlog{Services: 1, Slices: 1, AllServices: 3, AllSlices: 1}) {
		t.Errorf("backlog %+v", b)
	}
	first := take(c)
	if got := names(first); got != "a, b gone" || len(first.Triggers[rules.IPv4][ObjectName{"default", "a"}]) != 1 {
		t.Errorf("taken: %s, triggers %v", got, first.Triggers)
	}
	if b := c.Backlog(); b.Services+b.Slices > 0 {
		t.Errorf("backlog %+v after all was taken", b)
	}
	s.UpdateService(clusterIP("c", "10.96.0.3"))
	s.UpdateEndpointSlice(sliceOf("a", later.Add(time.Second), "10.244.0.2"))
	c.PutBack(first)
	if b := c.Backlog(); b.Services != 2 || b.Slices != 2 {
		t.Errorf("backlog %+v, want what was put back and what is new", b)
	}
	second := take(c)
	if got := names(second); got != "a, b gone, c" || len(second.Triggers[rules.IPv4][ObjectName{"default", "a"}]) != 2 {
		t.Errorf("taken: %s, triggers %v; want what was put back and what is new", got, second.Triggers)
	}
	s.UpdateEndpointSlice(sliceOf("a", later, "10.244.0.2"))
	if got := names(take(c)); got != "" {
		t.Errorf("taken: %s, but nothing has changed", got)
	}
}

// TestTriggersOfDeleted: once a slice is deleted nothing triggers its Service's changes, not what is put back after that either.
func TestTriggersOfDeleted(t *testing.T) {
	t.Parallel()
	c, s, _ := listed(t, clusterIP("a", "10.96.0.1"), clusterIP("b", "10.96.0.2"))
	later := c.began.Add(time.Hour)
	s.UpdateEndpointSlice(sliceOf("a", later, "10.244.0.1"))
	s.UpdateEndpointSlice(sliceOf("b", later, "10.244.0.2"))
	first := take(c)
	s.DeleteEndpointSlice("default", "a")
	s.UpdateEndpointSlice(sliceOf("a", later.Add(time.Second), "10.244.0.3"))
	c.PutBack(first)
	triggers := take(c).Triggers[rules.IPv4]
	if a, b := len(triggers[ObjectName{"default", "a"}]), len(triggers[ObjectName{"default", "b"}]); a != 1 || b != 1 {
		t.Errorf("a has %d triggers and b %d, want 1 each: %v", a, b, triggers)
	}
}

// TestInputs: an input has what the owner gets, and what it does without.
func TestInputs(t *testing.T) {
	t.Parallel()
	c, s, _ := listed(t, clusterIP("a", "10.96.0.1"))
	s.UpdateEndpointSlice(sliceOf("a", c.began, "10.244.0.1", "10.244.0.2"))
	late := clusterIP("b", "10.96.0.2")
	late.CreationTimestamp = metav1.NewTime(time.Unix(1, 0))
	late.Spec.ExternalIPs = []string{"10.96.0.1", "192.0.2.1"}
	s.UpdateService(late)
	owner := func(name string) rules.Owner {
		return rules.Owner{ServicePortName: rules.ServicePortName{Namespace: "default", Name: name}}
	}
	in := []Input{input(c, owner("b")), input(c, owner("a")), input(c, owner("nobody"))}
	if in[0].Owner != owner("b") || fmt.Sprint(in[0].Port.ExternalIPs) != "[192.0.2.1]" || len(in[0].Lost) != 1 {
		t.Errorf("b: %+v", in[0])
	}
	want := Conflict{rules.FrontendAt(netip.MustParseAddrPort("10.96.0.1:80"), rules.TCP), owner("a"), reason.BetterClaim, classClusterIP}
	if len(in[0].Lost) == 1 && in[0].Lost[0] != want {
		t.Errorf("b lost %+v, want %+v", in[0].Lost[0], want)
	}
	if len(in[1].Endpoints) != 2 || len(in[1].Lost) != 0 {
		t.Errorf("a: %+v", in[1])
	}
	if in[2].Port.Port != 0 || in[2].Port.Name != owner("nobody").ServicePortName {
		t.Errorf("nobody: %+v", in[2])
	}
	if all := c.AllInputs(); len(all) != 2 || all[0].Owner != owner("a") || all[1].Owner != owner("b") {
		t.Errorf("all inputs: %+v", all)
	}
}

// TestView: nothing comes in while a View is open.
func TestView(t *testing.T) {
	t.Parallel()
	c, _, _ := listed(t, clusterIP("a", "10.96.0.1"))
	ch, view := c.Take()
	for range ch.Owners {
		view.Input(ch.Owners[0].Owner)
		if c.mu.TryLock() {
			t.Fatal("changes can come in while a View is open")
		}
	}
	view.Close()
	view.Close()
	if !c.mu.TryLock() {
		t.Fatal("no changes can come in after a View")
	}
	c.mu.Unlock()
}

// TestManyFaults: who writes bad objects all the time fills no memory.
func TestManyFaults(t *testing.T) {
	t.Parallel()
	c, s, _ := listed(t)
	bad := clusterIP("bad", "10.96.0.1")
	for i := range maxTold + 5 {
		bad.Spec.ExternalIPs = []string{fmt.Sprint("x", i)}
		s.UpdateService(bad)
	}
	got := take(c).Faults
	if n := len(got); n != maxTold+1 || got[n-1].Kind != Untold || got[n-1].More != 5 {
		t.Errorf("%d faults, the last %+v; want %d and that there are 5 more", n, got[n-1], maxTold)
	}
	if got := c.Faults(); len(got) > 0 {
		t.Errorf("they come again: %+v", got)
	}
}

// TestFaults: what is wrong with an object comes out once.
func TestFaults(t *testing.T) {
	t.Parallel()
	c, s, _ := listed(t)
	bad := clusterIP("bad", "10.96.0.1")
	bad.UID, bad.Spec.ExternalIPs = "u1", []string{"x"}
	s.UpdateService(bad)
	fqdn := sliceOf("a", c.began)
	fqdn.AddressType = discoveryv1.AddressTypeFQDN
	s.UpdateEndpointSlice(fqdn)
	s.DeleteNode("n1")
	s.DeleteNode("n2")
	got := c.Faults()
	if len(got) != 3 || got[0].Kind != Unusable || got[0].About != (Object{"v1", "Service", ObjectName{"default", "bad"}, "u1"}) || len(got[0].Errs) != 1 ||
		got[1].Kind != NotForProxies || got[1].Text != "FQDN" || got[2].Kind != NodeGone {
		t.Errorf("faults: %+v", got)
	}
	if got := c.Faults(); len(got) > 0 {
		t.Errorf("they come again: %+v", got)
	}
}

// TestNodeChanges: a change of the node comes out once, and marks the owners that depend on it.
func TestNodeChanges(t *testing.T) {
	t.Parallel()
	c, s, _ := listed(t, clusterIP("a", "10.96.0.1"))
	n := node("InternalIP=10.0.0.1")
	n.Labels = map[string]string{corev1.LabelTopologyZone: "z"}
	before := take(c)
	s.UpdateNode(n)
	now := take(c)
	if before.Node.Zone != "" || now.Node.Zone != "z" || names(now) != "a" {
		t.Errorf("before %q, now %q, owners %s; want the zone z and a", before.Node.Zone, now.Node.Zone, names(now))
	}
	if ch := take(c); !ch.Node.Equal(&now.Node) || names(ch) != "" {
		t.Errorf("it has changed again: %+v", ch)
	}
}

// TestConcurrently lets sources, a programmer and cleaners use a Cluster at once, for the race detector; nothing is lost.
func TestConcurrently(t *testing.T) {
	t.Parallel()
	var l quiet
	c := New(Config{NodeName: "n1"}, &l)
	s := NewSink(c)
	var wg sync.WaitGroup
	const each = 200
	for name := range 4 {
		wg.Go(func() {
			for i := range each {
				s.UpdateService(clusterIP(fmt.Sprintf("s%d-%d", name, i), fmt.Sprintf("10.96.%d.%d", name, i)))
				s.UpdateNode(node("InternalIP=10.0.0.1"))
			}
		})
	}
	taken := map[rules.Owner]bool{}
	takeAll := func() {
		ch, view := c.Take()
		for _, o := range ch.Owners {
			taken[o.Owner] = true
			view.Input(o.Owner)
		}
		view.Close()
		for range ch.Owners {
			c.ServedBy(rules.NodePort(rules.IPv4, rules.TCP, 80))
		}
		c.Faults()
		c.Backlog()
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		takeAll()
	}
	if len(taken) != 4*each {
		t.Errorf("%d owners were taken, want %d", len(taken), 4*each)
	}
}

// quiet is a listener that is told by several goroutines.
type quiet struct{}

func (*quiet) Changed() {}

func (*quiet) SetNodeEligible(bool) {}
