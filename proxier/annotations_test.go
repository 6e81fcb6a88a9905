// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// annotatedSite is objects of which one may have an annotation: a Service that has everything, near and far endpoints, and the Node.
type annotatedSite struct {
	service *corev1.Service
	slices  [2]*discoveryv1.EndpointSlice
	node    *corev1.Node
}

func newAnnotatedSite() annotatedSite {
	web := service("web", "10.96.0.1", "80")
	web.Spec.Type, web.Spec.Ports[0].NodePort, web.Spec.ExternalIPs = corev1.ServiceTypeLoadBalancer, 30080, []string{"192.0.2.1"}
	web.Spec.LoadBalancerSourceRanges = []string{"198.51.100.0/24"}
	web.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.2"}}
	s := annotatedSite{service: web, slices: [2]*discoveryv1.EndpointSlice{
		endpoints("near", "web", "8080", "10.0.0.1 10.0.0.2"), endpoints("far", "web", "8080", "10.0.0.3 10.0.0.4 10.0.0.5")}}
	near := s.slices[0].Endpoints
	near[0].NodeName, near[0].Zone, near[1].Zone = ptr.To("here"), ptr.To("a"), ptr.To("a")
	s.node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "here", Labels: map[string]string{corev1.LabelTopologyZone: "a", "ingress": "true"}}}
	return s
}

// set gives the Service, or for a weight the slice of far endpoints, an annotation, or takes it away: "".
func (s *annotatedSite) set(name, value string) {
	var annotations map[string]string
	if value != "" {
		annotations = map[string]string{name: value}
	}
	if strings.HasSuffix(name, ".io/weight") {
		s.slices[1] = s.slices[1].DeepCopy()
		s.slices[1].Annotations = annotations
		return
	}
	s.service = s.service.DeepCopy()
	s.service.Annotations = annotations
}

// tell tells a node of the objects as they are now.
func (s *annotatedSite) tell(n *node) {
	n.UpdateNode(s.node)
	n.UpdateService(s.service)
	n.UpdateEndpointSlice(s.slices[1])
	synctest.Wait()
}

// rulesOfStart returns what a node has that is started with the objects.
func (s *annotatedSite) rulesOfStart(t *testing.T) string {
	n := start(t, &rulestest.Kernel{})
	defer n.stop()
	n.UpdateNode(s.node)
	n.lists(s.service, s.slices[0], s.slices[1])
	return text(n.kernel.State())
}

// TestAnnotationsAreFollowed: a new value of an annotation counts at once, whatever was before, as if the process had started with it.
// A wrong one is told of by an Event, and is as if there were none.
func TestAnnotationsAreFollowed(t *testing.T) {
	const evil = "\x1b[2J\u202e" // what a terminal takes for a command, and turns letters around
	for _, tt := range []struct {
		name        string
		good, wrong []string
	}{
		{"nftproxy.io/scheduler", []string{"random", "source-hash", "client-hash", "maglev", "least-connections"}, []string{"fastest", "rr", evil}},
		{"service.cilium.io/lb-algorithm", []string{"random", "maglev"}, []string{"fastest", evil}},
		{"nftproxy.io/weight", []string{"3", "65535", "0"}, []string{"-1", "65536", "1.5", "much", evil}},
		{"service.cilium.io/weight", []string{"3", "0"}, []string{"-1", "1e3", evil}},
		{"nftproxy.io/local-weight", []string{"4", "65535"}, []string{"0", "65536", "-4", "x", evil}},
		{"nftproxy.io/zone-weight", []string{"4", "65535"}, []string{"0", "65536", "x", evil}},
		{"nftproxy.io/src-ranges-policy", []string{"deny", "Deny"}, []string{"refuse", evil}},
		{"service.cilium.io/src-ranges-policy", []string{"deny"}, []string{"refuse", evil}},
		{"nftproxy.io/node-selector", []string{"ingress=false", "kubernetes.io/hostname in (a, b)", "!ingress"}, []string{"a=(", "a in (b", evil}},
		{"service.cilium.io/node-selector", []string{"ingress=false"}, []string{"a=(", evil}},
		{"nftproxy.io/type", []string{"LoadBalancer", "ClusterIP,NodePort", "externalips", "nodeport"}, []string{"Everywhere", "ClusterIP;NodePort", evil}},
		{"service.cilium.io/type", []string{"LoadBalancer"}, []string{"Everywhere", evil}},
		{"nftproxy.io/slow-start", nil, []string{"2h", "1ms", "-30s", "30", "soon", evil}},
		{"nftproxy.io/settle", nil, []string{"11m", "99ms", "-3s", "3", "soon", evil}},
		{"nftproxy.io/maglev-table-size", nil, []string{"252", "250", "65537", "x", evil}},
		{"nftproxy.io/failover", []string{"true"}, []string{"yes", evil}},
	} {
		t.Run(strings.ReplaceAll(tt.name, "/", " "), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newAnnotatedSite()
				n := start(t, &rulestest.Kernel{})
				defer n.stop()
				n.UpdateNode(s.node)
				n.lists(s.service, s.slices[0], s.slices[1])
				without := text(n.kernel.State())
				last := without
				for _, value := range append(tt.good, "") {
					s.set(tt.name, value)
					s.tell(n)
					got := text(n.kernel.State())
					if want := s.rulesOfStart(t); got != want {
						t.Errorf("%q: got\n%s\nwant\n%s", value, got, want)
					}
					if same := got == without; same != (value == "") {
						t.Errorf("%q: as without it: %v", value, same)
					}
					n.expectEvents()
					last = got
				}
				for _, value := range tt.wrong {
					if len(tt.good) > 0 { // from a good value to a wrong one
						s.set(tt.name, tt.good[0])
						s.tell(n)
					}
					s.set(tt.name, value)
					s.tell(n)
					if got := text(n.kernel.State()); got != last {
						t.Errorf("%q: got\n%s\nwant\n%s", value, got, last)
					}
					if told := fmt.Sprint(n.events); len(n.events) != 1 || !strings.Contains(told, tt.name) || strings.Contains(told, "\x1b") || strings.Contains(told, "\u202e") {
						t.Errorf("%q: events %q, want one that names %s", value, n.events, tt.name)
					}
					n.events = nil
				}
			})
		})
	}
}

// TestNodeLabelsAreFollowed: labels of the Node that a selector names, and its zone, count at once.
func TestNodeLabelsAreFollowed(t *testing.T) {
	for _, annotation := range []string{"nftproxy.io/node-selector=ingress=true", "service.cilium.io/node-selector=ingress=true", "nftproxy.io/zone-weight=4"} {
		synctest.Test(t, func(t *testing.T) {
			s := newAnnotatedSite()
			name, value, _ := strings.Cut(annotation, "=")
			s.set(name, value)
			n := start(t, &rulestest.Kernel{})
			defer n.stop()
			n.UpdateNode(s.node)
			n.lists(s.service, s.slices[0], s.slices[1])
			seen := map[string]bool{text(n.kernel.State()): true}
			for _, labels := range []map[string]string{{}, {corev1.LabelTopologyZone: "b", "ingress": "false"}, s.node.Labels} {
				s.node = s.node.DeepCopy()
				s.node.Labels = labels
				s.tell(n)
				got := text(n.kernel.State())
				if want := s.rulesOfStart(t); got != want {
					t.Errorf("%s with labels %v: got\n%s\nwant\n%s", annotation, labels, got, want)
				}
				seen[got] = true
			}
			if len(seen) != 2 {
				t.Errorf("%s: %d different sets of rules, want 2", annotation, len(seen))
			}
		})
	}
}

// TestSlowStartIsFollowed: slow start that comes, changes or goes while an endpoint is new counts for it.
func TestSlowStartIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		web := service("web", "10.96.0.1", "80")
		slowly := func(value string) *corev1.Service {
			s := web.DeepCopy()
			if value != "" {
				s.Annotations = map[string]string{"nftproxy.io/slow-start": value}
			}
			return s
		}
		n.lists(slowly("90s"), endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2"))
		n.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2 10.0.0.3"))
		expect := func(what, want string) {
			t.Helper()
			time.Sleep(time.Millisecond)
			synctest.Wait()
			if got := n.slots(); got != want {
				t.Errorf("%s: slots %s, want %s", what, got, want)
			}
		}
		expect("it comes", "31 30 3")
		time.Sleep(45 * time.Second)
		n.UpdateService(slowly("450s"))
		expect("five times as long", "31 30 3")
		n.UpdateService(slowly("1h"))
		expect("longer still", "31 30 3")
		n.UpdateService(slowly("60s"))
		expect("sooner", "24 24 16")
		n.UpdateService(slowly("soon"))
		expect("a wrong value", "1 1 1")
		n.UpdateService(slowly("9s"))
		expect("all are known", "1 1 1")
		n.UpdateService(slowly(""))
		expect("it goes", "1 1 1")
	})
}

// TestCountsAreFollowed: connections are counted as soon as a Service asks for that, whatever it asked for before, and no longer.
func TestCountsAreFollowed(t *testing.T) {
	for _, before := range []string{"", "random", "maglev"} {
		synctest.Test(t, func(t *testing.T) {
			c := &counter{open: map[string]uint32{"10.0.0.1": 100}}
			n := startWith(t, &rulestest.Kernel{}, func(config *proxier.Config) { config.Conntrack = c })
			defer n.stop()
			by := func(scheduler string) *corev1.Service {
				s := service("web", "10.96.0.1", "80")
				s.Annotations = map[string]string{"nftproxy.io/scheduler": scheduler}
				if scheduler == "" {
					s.Annotations = nil
				}
				return s
			}
			n.lists(by(before), endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2"))
			time.Sleep(time.Minute)
			if got := c.asked(); got != 0 {
				t.Errorf("%q: counted %d times", before, got)
			}
			n.UpdateService(by("least-connections"))
			time.Sleep(1500 * time.Millisecond)
			synctest.Wait()
			if got, want := n.slots(), "1 63"; got != want {
				t.Errorf("from %q to least-connections: slots %s, want %s", before, got, want)
			}
			n.UpdateService(by(before))
			time.Sleep(time.Minute)
			counted := c.asked()
			time.Sleep(time.Minute)
			if got := c.asked(); got != counted {
				t.Errorf("back to %q: counted %d times more", before, got-counted)
			}
		})
	}
}
