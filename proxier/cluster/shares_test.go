// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/rules"
)

// annotated adds annotations, as name and value in turn.
func annotated(s *corev1.Service, list ...string) *corev1.Service {
	s.Annotations = map[string]string{}
	for i := 0; i < len(list); i += 2 {
		s.Annotations[list[i]] = list[i+1]
	}
	return s
}

// TestAnnotations: each annotation does what it says, Cilium's where ours is absent; what is wrong is told and leaves the default.
func TestAnnotations(t *testing.T) {
	full := func(annotations ...string) *corev1.Service {
		s := annotated(clusterIP("web", "10.96.0.1"), annotations...)
		s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeLoadBalancer, 30080
		s.Spec.HealthCheckNodePort, s.Spec.ExternalIPs = 30000, []string{"192.0.2.1"}
		s.Spec.LoadBalancerSourceRanges = []string{"198.51.100.0/24"}
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.2"}}
		return s
	}
	const everywhere = " at 10.96.0.1 30080 [192.0.2.2] [192.0.2.1]"
	for _, tt := range []struct{ annotations, want, fault string }{
		{"", "round-robin 0 0 0 false 0s" + everywhere, ""},
		{"nftproxy.io/scheduler=maglev nftproxy.io/maglev-table-size=251", "maglev 251 0 0 false 0s" + everywhere, ""},
		{"service.cilium.io/lb-algorithm=random", "random 0 0 0 false 0s" + everywhere, ""},
		{"service.cilium.io/lb-algorithm=random nftproxy.io/scheduler=client-hash", "client-hash 0 0 0 false 0s" + everywhere, ""},
		{"service.cilium.io/lb-algorithm=best", "round-robin 0 0 0 false 0s" + everywhere, "service.cilium.io/lb-algorithm"},
		{"nftproxy.io/maglev-table-size=252", "round-robin 0 0 0 false 0s" + everywhere, "is no prime"},
		{"nftproxy.io/local-weight=4 nftproxy.io/zone-weight=65535", "round-robin 0 4 65535 false 0s" + everywhere, ""},
		{"nftproxy.io/local-weight=0 nftproxy.io/zone-weight=65536", "round-robin 0 0 0 false 0s" + everywhere, "nftproxy.io/zone-weight"},
		{"nftproxy.io/scheduler=maglev nftproxy.io/local-weight=2", "maglev 0 2 0 false 0s" + everywhere, "no effect"},
		{"nftproxy.io/slow-start=30s", "round-robin 0 0 0 false 30s" + everywhere, ""},
		{"nftproxy.io/slow-start=2h", "round-robin 0 0 0 false 0s" + everywhere, "nftproxy.io/slow-start"},
		{"nftproxy.io/slow-start=-1s", "round-robin 0 0 0 false 0s" + everywhere, "nftproxy.io/slow-start"},
		{"nftproxy.io/src-ranges-policy=deny", "round-robin 0 0 0 true 0s" + everywhere, ""},
		{"service.cilium.io/src-ranges-policy=Deny", "round-robin 0 0 0 true 0s" + everywhere, ""},
		{"nftproxy.io/src-ranges-policy=allow service.cilium.io/src-ranges-policy=deny", "round-robin 0 0 0 false 0s" + everywhere, ""},
		{"nftproxy.io/src-ranges-policy=refuse", "round-robin 0 0 0 false 0s" + everywhere, "neither allow nor deny"},
		{"nftproxy.io/type=LoadBalancer", "round-robin 0 0 0 false 0s at invalid IP 0 [192.0.2.2] []", ""},
		{"service.cilium.io/type=NodePort,ClusterIP", "round-robin 0 0 0 false 0s at 10.96.0.1 30080 [] []", ""},
		{"nftproxy.io/type=externalIPs", "round-robin 0 0 0 false 0s at invalid IP 0 [] [192.0.2.1]", ""},
		{"nftproxy.io/type=Everywhere", "round-robin 0 0 0 false 0s" + everywhere, "nftproxy.io/type"},
		{"nftproxy.io/node-selector=a=(", "round-robin 0 0 0 false 0s" + everywhere, "nftproxy.io/node-selector"},
	} {
		var list []string
		for _, a := range strings.Fields(tt.annotations) {
			name, value, _ := strings.Cut(a, "=")
			list = append(list, name, value)
		}
		svc, errs := convertService(full(list...), serviceOptions{})
		var sp rules.ServicePort
		eachOwner(ObjectName{"default", "web"}, svc, func(_ rules.Owner, p rules.ServicePort) { sp = p })
		got := fmt.Sprint(sp.Scheduler, " ", sp.TableSize, " ", sp.LocalWeight, " ", sp.ZoneWeight, " ", sp.DenySources, " ", svc.choices.slowStart,
			" at ", sp.ClusterIP, " ", sp.NodePort, " ", sp.LoadBalancerIPs, " ", sp.ExternalIPs)
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.annotations, got, tt.want)
		}
		if text := fmt.Sprint(errs); (len(errs) > 0) != (tt.fault != "") || !strings.Contains(text, tt.fault) {
			t.Errorf("%s: faults %s, want one about %q", tt.annotations, text, tt.fault)
		}
	}
}

// TestSliceWeights reads the weights of EndpointSlices.
func TestSliceWeights(t *testing.T) {
	for _, tt := range []struct {
		annotations []string
		weight      uint16
		idle, fault bool
	}{
		{nil, 0, false, false},
		{[]string{"nftproxy.io/weight", "7"}, 7, false, false},
		{[]string{"nftproxy.io/weight", "0"}, 0, true, false},
		{[]string{"service.cilium.io/weight", "9"}, 9, false, false},
		{[]string{"service.cilium.io/weight", "9", "nftproxy.io/weight", "8"}, 8, false, false},
		{[]string{"nftproxy.io/weight", "65536"}, 0, false, true},
		{[]string{"nftproxy.io/weight", "-1", "service.cilium.io/weight", "3"}, 0, false, true},
		{[]string{"nftproxy.io/weight", "\x1b[2J"}, 0, false, true},
	} {
		es := sliceOf("web", time.Now(), "10.0.0.1")
		es.Annotations = annotated(&corev1.Service{}, tt.annotations...).Annotations
		s, errs := convertSlice(es, "here")
		if s.weight != tt.weight || s.idle != tt.idle || (len(errs) > 0) != tt.fault {
			t.Errorf("%q: weight %d, idle %v, faults %v", tt.annotations, s.weight, s.idle, errs)
		}
	}
}

// owners takes what has changed, by name.
func owners(c *Cluster) string {
	var out []string
	for _, o := range take(c).Owners {
		name := o.Name
		if o.Tuned {
			name += " tuned"
		}
		if o.Gone {
			name += " gone"
		}
		out = append(out, name)
	}
	return strings.Join(out, ", ")
}

// TestSlotLimits: however many Services ask for slots, all of them together have no more than there are, and all share alike.
func TestSlotLimits(t *testing.T) {
	c, s, _ := listed(t)
	c.store.shares.most = 1000
	limit := func(n int) int {
		o := rules.Owner{ServicePortName: rules.ServicePortName{Namespace: "default", Name: fmt.Sprint("svc-", n)}}
		return c.store.input(o).Port.SlotLimit
	}
	s.UpdateService(clusterIP("plain", "10.96.1.1"))
	add := func(n int) {
		s.UpdateService(annotated(clusterIP(fmt.Sprint("svc-", n), fmt.Sprintf("10.96.0.%d", n)), "nftproxy.io/scheduler", "maglev"))
	}
	add(1)
	if owners(c); limit(1) != 512 {
		t.Errorf("one of 1,000 slots: %d", limit(1))
	}
	add(2)
	if got := owners(c); limit(1) != 256 && limit(2) != 256 || got != "svc-1, svc-2" {
		t.Errorf("two: %d and %d; changed: %s", limit(1), limit(2), got)
	}
	add(3)
	if got := owners(c); got != "svc-3" {
		t.Errorf("a third one changes %s", got)
	}
	for n := 4; n <= 200; n++ {
		add(n)
	}
	if owners(c); limit(1) != 16 || limit(200) != 16 {
		t.Errorf("200: %d and %d", limit(1), limit(200))
	}
	for n := 2; n <= 200; n++ {
		s.DeleteService("default", fmt.Sprint("svc-", n))
	}
	if owners(c); limit(1) != 512 {
		t.Errorf("one again: %d", limit(1))
	}
	s.UpdateService(clusterIP("svc-1", "10.96.0.1"))
	es := sliceOf("svc-1", time.Now(), "10.0.0.1")
	es.Annotations = map[string]string{"nftproxy.io/weight": "5"}
	if s.UpdateEndpointSlice(es); limit(1) != 512 {
		t.Errorf("a weight: %d", limit(1))
	}
	if s.DeleteEndpointSlice("default", "svc-1"); limit(1) != 0 || len(c.store.shares.asking) != 0 {
		t.Errorf("nothing asked for: %d, %v", limit(1), c.store.shares.asking)
	}
}

// TestNodeSelector: a Service is served only where the node's labels match, whenever one of both changes.
func TestNodeSelector(t *testing.T) {
	c, s, _ := listed(t)
	expect := func(what, want string) {
		t.Helper()
		if got := owners(c); got != want {
			t.Errorf("%s: changed %q, want %q", what, got, want)
		}
	}
	node := func(labels ...string) {
		s.UpdateNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: annotated(&corev1.Service{}, labels...).Annotations}})
	}
	web := annotated(clusterIP("web", "10.96.0.1"), "nftproxy.io/node-selector", "ingress=true")
	s.UpdateService(web)
	expect("no labels", "")
	if c.Elsewhere()["default/web"] != "ingress=true" {
		t.Errorf("elsewhere: %v", c.Elsewhere())
	}
	node("ingress", "true")
	expect("the label comes", "web")
	node("ingress", "true", "other", "x")
	expect("another label comes", "")
	// Another Service gets the ClusterIP while the node is not selected.
	s.UpdateService(clusterIP("thief", "10.96.0.1"))
	expect("two of one address", "thief, web")
	node("ingress", "false")
	expect("the label goes", "web gone")
	s.UpdateService(clusterIP("web", "10.96.0.1"))
	if got := owners(c); !strings.Contains(got, "web") || strings.Contains(got, "gone") {
		t.Errorf("the selector goes: %s", got)
	}
	s.UpdateService(web)
	owners(c)
	s.ReplaceServices(nil)
	if len(c.store.shares.selective) != 0 || len(c.Elsewhere()) != 0 {
		t.Errorf("deleted, but known: %v", c.store.shares.selective)
	}
}

// TestSlowStart: the weight of an endpoint that has become ready grows by steps, with a clock that is the test's.
func TestSlowStart(t *testing.T) {
	c, s, _ := listed(t, annotated(clusterIP("web", "10.96.0.1"), "nftproxy.io/slow-start", "9s"))
	now := time.Unix(1000, 0)
	c.store.shares.now = func() time.Time { return now }
	warm := func() string {
		o := rules.Owner{ServicePortName: rules.ServicePortName{Namespace: "default", Name: "web"}}
		var out []string
		for _, e := range c.store.input(o).Endpoints {
			out = append(out, fmt.Sprint(e.Warm))
		}
		return strings.Join(out, " ")
	}
	s.UpdateEndpointSlice(sliceOf("web", now, "10.0.0.1"))
	if got := warm(); got != "1" { // it comes after the Service
		t.Errorf("the first one: %s", got)
	}
	now = now.Add(time.Minute)
	if next := c.WarmUp(); next != 0 || warm() != "0" {
		t.Errorf("after a minute: %s, next in %s", warm(), next)
	}
	s.UpdateEndpointSlice(sliceOf("web", now, "10.0.0.1", "10.0.0.2"))
	owners(c)
	var steps []string
	for next := c.WarmUp(); next > 0; next = c.WarmUp() {
		steps = append(steps, fmt.Sprint(next, ": ", warm()))
		if now = now.Add(next); len(steps) > 20 {
			t.Fatal("there is no end")
		}
	}
	if got, want := strings.Join(steps, ", "), "1s: 0 1, 1s: 0 2, 1s: 0 3, 1s: 0 4, 1s: 0 5, 1s: 0 6, 1s: 0 7, 1s: 0 8, 1s: 0 9"; got != want {
		t.Errorf("steps %s, want %s", got, want)
	}
	if got := owners(c); got != "web tuned" || warm() != "0 0" {
		t.Errorf("in the end %s, changed: %s", warm(), got)
	}
	s.UpdateEndpointSlice(sliceOf("web", now, "10.0.0.1"))
	s.UpdateEndpointSlice(sliceOf("web", now, "10.0.0.1", "10.0.0.2"))
	if warm() != "0 1" {
		t.Errorf("it went and came: %s", warm())
	}
	if got := owners(c); got != "web" {
		t.Errorf("changed: %s", got)
	}
}

// TestSettle: an endpoint that has become ready waits, and starts slowly afterwards, if that is asked for, too.
func TestSettle(t *testing.T) {
	web := annotated(clusterIP("web", "10.96.0.1"), "nftproxy.io/settle", "2s", "nftproxy.io/slow-start", "3s")
	c, s, _ := listed(t, web, clusterIP("other", "10.96.0.2"))
	now := time.Unix(1000, 0)
	c.store.shares.now = func() time.Time { return now }
	states := func() string {
		o := rules.Owner{ServicePortName: rules.ServicePortName{Namespace: "default", Name: "web"}}
		var out []string
		for _, e := range c.store.input(o).Endpoints {
			out = append(out, fmt.Sprintf("%v-%d", e.Settling, e.Warm))
		}
		return strings.Join(out, " ")
	}
	s.UpdateEndpointSlice(sliceOf("web", now, "10.0.0.1"))
	now = now.Add(time.Minute)
	if next := c.WarmUp(); next != 0 || states() != "false-0" {
		t.Errorf("long since: %s, next in %s", states(), next)
	}
	s.UpdateEndpointSlice(sliceOf("web", now, "10.0.0.1", "10.0.0.2"))
	owners(c)
	for _, step := range []struct {
		after, next time.Duration
		want, owner string
	}{
		{0, 2 * time.Second, "false-0 true-0", ""},
		{1500 * time.Millisecond, 500 * time.Millisecond, "false-0 true-0", ""},
		{500 * time.Millisecond, time.Second / 3, "false-0 false-1", "web tuned"},
		{time.Second, time.Second / 3, "false-0 false-4", "web tuned"},
		{2 * time.Second, 0, "false-0 false-0", "web tuned"},
	} {
		now = now.Add(step.after)
		next := c.WarmUp()
		if got := owners(c); states() != step.want || got != step.owner || (next-step.next).Abs() > time.Microsecond {
			t.Errorf("%s later: %s, next in %s, changed: %q; want %s, %s, %q", step.after, states(), next, got, step.want, step.next, step.owner)
		}
	}
	s.UpdateEndpointSlice(sliceOf("web", now, "10.0.0.1", "10.0.0.2", "10.0.0.3"))
	s.UpdateService(clusterIP("web", "10.96.0.1"))
	if got := states(); got != "false-0 false-0 false-0" || len(c.store.shares.new) > 0 {
		t.Errorf("the annotation goes: %s", got)
	}
}

// TestFirstListsAreNotNew: what is there at the start has its whole weight.
func TestFirstListsAreNotNew(t *testing.T) {
	c, _ := listening(Config{NodeName: "n1"})
	s := NewSink(c)
	s.UpdateEndpointSlice(sliceOf("web", time.Now(), "10.0.0.1"))
	s.ReplaceServices([]*corev1.Service{annotated(clusterIP("web", "10.96.0.1"), "nftproxy.io/slow-start", "30s")})
	es := sliceOf("web", time.Now(), "10.0.0.2")
	es.Name = "web-2"
	s.UpdateEndpointSlice(es)
	if next := c.WarmUp(); next != 0 {
		t.Errorf("something is new: %v", c.store.shares.new)
	}
}

// TestCounting: the endpoints of Services that ask for it are counted, and no others; only a change of a count changes the Service.
func TestCounting(t *testing.T) {
	c, s, _ := listed(t, annotated(clusterIP("lc", "10.96.0.1"), "nftproxy.io/scheduler", "least-connections"), clusterIP("other", "10.96.0.2"))
	s.UpdateEndpointSlice(sliceOf("lc", time.Now(), "10.0.0.1", "10.0.0.2"))
	s.UpdateEndpointSlice(sliceOf("other", time.Now(), "10.0.0.3"))
	owners(c)
	open := c.Counting()
	if got := len(open); got != 2 {
		t.Fatalf("counted: %v", open)
	}
	one := rules.Backend{Protocol: rules.TCP, Addr: netip.MustParseAddrPort("10.0.0.1:8080")}
	open[one] = 7
	c.SetOpen(open)
	if got := owners(c); got != "lc tuned" {
		t.Errorf("changed: %s", got)
	}
	o := rules.Owner{ServicePortName: rules.ServicePortName{Namespace: "default", Name: "lc"}}
	if e := c.store.input(o).Endpoints[0]; e.Open != 7 {
		t.Errorf("endpoint %+v", e)
	}
	c.SetOpen(maps.Clone(open))
	if got := owners(c); got != "" {
		t.Errorf("the same counts change %s", got)
	}
	open = maps.Clone(open)
	open[one] = 8
	c.SetOpen(open)
	s.UpdateEndpointSlice(sliceOf("lc", time.Now(), "10.0.0.1"))
	if got := owners(c); got != "lc" {
		t.Errorf("a count and an endpoint: %s", got)
	}
	c.PutBack(Changes{Owners: []Changed{{Owner: o, Tuned: true}}})
	if got := owners(c); got != "lc" {
		t.Errorf("put back: %s", got)
	}
	if s.DeleteService("default", "lc"); len(c.Counting()) != 0 {
		t.Error("nobody asks, but there is something to count")
	}
}
