// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/proxier/health"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// largeKernel takes as long to read as one with 10,000 services, and as long to refuse as the kernel, which waits
// for its readers. It counts.
type largeKernel struct {
	rulestest.Kernel
	reads, applies atomic.Int64
	nameless       bool // it does not say what it refuses
}

func (k *largeKernel) Read(table string) (rules.State, error) {
	k.reads.Add(1)
	time.Sleep(500 * time.Millisecond)
	return k.Kernel.Read(table)
}

func (k *largeKernel) Apply(tx rules.Tx) error {
	k.applies.Add(1)
	err := k.Kernel.Apply(tx)
	if err != nil {
		time.Sleep(20 * time.Millisecond)
		if k.nameless {
			return &rules.Refusal{Untouched: true, Err: syscall.EINVAL}
		}
	}
	return err
}

// alive is Health of which only the Proxy is asked.
type alive struct{ *health.Proxy }

func (alive) SetAddresses([]netip.Addr)                 {}
func (alive) SetService(string, string, uint16, [2]int) {}
func (alive) DeleteService(string, string)              {}

// TestRefusedServicesHoldUpNobody changes a good service while the kernel refuses others, which are tried again
// and again.
func TestRefusedServicesHoldUpNobody(t *testing.T) {
	for _, tt := range []struct {
		bad      int
		nameless bool
	}{{1, false}, {10, false}, {50, false}, {1, true}, {50, true}} {
		t.Run(fmt.Sprintf("%d bad, nameless %v", tt.bad, tt.nameless), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &largeKernel{nameless: tt.nameless}
				p, stop := runWith(t, proxier.Config{Kernel: k, Pace: proxier.Pace{AuditPeriod: -1}})
				defer stop()
				services := []*corev1.Service{service("good", "10.96.0.1", "80")}
				slices := []*discoveryv1.EndpointSlice{endpoints("g", "good", "8080", "10.0.0.1 10.0.0.2")}
				for i := range tt.bad {
					services = append(services, service(fmt.Sprint("bad", i), fmt.Sprintf("10.97.0.%d", i+1), "80"))
				}
				p.ReplaceServices(services)
				p.ReplaceEndpointSlices(slices)
				<-p.Synced()
				k.Refuse(func(op rules.Op) bool { return strings.Contains(op.Chain.Name, "/bad") })
				for i := range tt.bad {
					p.UpdateEndpointSlice(endpoints(fmt.Sprint("b", i), fmt.Sprint("bad", i), "8080", "10.0.1.1 10.0.1.2"))
				}
				time.Sleep(3 * time.Second)
				k.reads.Store(0)
				var worst time.Duration
				for i := range 1000 {
					addr := fmt.Sprintf("10.0.0.%d", 3+i%200)
					start := time.Now()
					p.UpdateEndpointSlice(endpoints("g", "good", "8080", "10.0.0.1 "+addr))
					for !strings.Contains(text(k.State()), addr+" . 8080") {
						time.Sleep(5 * time.Millisecond)
					}
					worst = max(worst, time.Since(start))
					time.Sleep(700 * time.Millisecond)
				}
				if limit := 500 * time.Millisecond; worst > limit || k.reads.Load() > 0 {
					t.Errorf("a good change took %s at most, and the kernel was read %d times, want less than %s and never",
						worst, k.reads.Load(), limit)
				}
				t.Logf("worst delay %s, %d transactions refused", worst, k.Refused())
				k.Refuse(nil)
				time.Sleep(10 * time.Minute)
				if n := strings.Count(text(k.State()), "10.0.1.1 . 8080"); n != tt.bad {
					t.Errorf("%d of %d are programmed after the kernel refuses no more", n, tt.bad)
				}
			})
		})
	}
}

// TestFailedAuditHoldsUpNothing programs changes while the kernel cannot be read, and compares when it can.
func TestFailedAuditHoldsUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		n.lists(service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1"),
			service("other", "10.96.0.2", "80"), endpoints("o", "other", "8080", "10.0.0.7"))
		n.kernel.FailReads(errors.New("the tables kept changing while they were read"))
		n.kernel.Tamper(func(s *rules.State) {
			delete(s.Tables[rules.IPv4].Sets[rules.SetID{Kind: rules.Single}], frontend("10.96.0.2"))
		})
		n.changed <- struct{}{}
		synctest.Wait()
		for i := range 100 {
			n.UpdateEndpointSlice(endpoints("a", "web", "8080", fmt.Sprintf("10.0.0.%d", 2+i%2)))
			synctest.Wait()
			n.expect("10.96.0.1:80", fmt.Sprintf("10.0.0.%d:8080", 2+i%2))
			time.Sleep(time.Second)
		}
		n.kernel.FailReads(nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		n.expect("10.96.0.2:80", "10.0.0.7:8080")
	})
}

func frontend(ip string) rules.Key {
	return rules.Key{Addr: netip.MustParseAddr(ip), Protocol: rules.TCP, Port: 80}
}

// TestGeneralErrors: where nothing can be programmed nftproxy is not well, tries again ever more rarely whatever
// comes in, and blames no service.
func TestGeneralErrors(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOMEM, syscall.ENOBUFS, syscall.EPERM} {
		for _, from := range []string{"the start", "later"} {
			t.Run(errno.Error()+" from "+from, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					k, well := &largeKernel{}, alive{health.NewProxy(time.Minute)}
					p, stop := runWith(t, proxier.Config{Kernel: k, Health: well, Events: noEvents{t}, Pace: proxier.Pace{AuditPeriod: -1}})
					defer stop()
					if from == "the start" {
						k.FailApplies(errno)
					}
					p.ReplaceServices([]*corev1.Service{service("web", "10.96.0.1", "80"), service("more", "10.96.0.2", "80")})
					p.ReplaceEndpointSlices(nil)
					time.Sleep(5 * time.Second)
					k.FailApplies(errno)
					k.reads.Store(0)
					k.applies.Store(0)
					for i := range 1200 { // two minutes
						p.UpdateEndpointSlice(endpoints("w", "web", "8080", fmt.Sprintf("10.0.0.%d", 1+i%2)))
						time.Sleep(100 * time.Millisecond)
					}
					if tries := max(k.reads.Load(), k.applies.Load()); tries > 20 || tries < 5 {
						t.Errorf("%d tries in two minutes of ten changes a second, want a few", tries)
					}
					if well.Healthy() {
						t.Error("healthy while nothing is programmed")
					}
					k.FailApplies(nil)
					time.Sleep(time.Minute)
					if !well.Healthy() || !strings.Contains(text(k.State()), "10.0.0.2 . 8080") {
						t.Errorf("healthy %v a minute after it works again; the kernel has\n%s", well.Healthy(), text(k.State()))
					}
				})
			})
		}
	}
}

// noEvents fails the test for each.
type noEvents struct{ t *testing.T }

func (e noEvents) Warning(about corev1.ObjectReference, reason, message string) {
	e.t.Errorf("%s %s: %s", about.Name, reason, message)
}

// TestHealthAtTheStart counts from when it is tried, not from when it began to wait for what it must know.
func TestHealthAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, well := &largeKernel{}, alive{health.NewProxy(time.Minute)}
		k.FailReads(errors.New("no netlink"))
		p, stop := runWith(t, proxier.Config{Cluster: cluster.Config{DetectNodeCIDR: true}, Kernel: k, Health: well, Pace: proxier.Pace{NodeWait: 30 * time.Second}})
		defer stop()
		p.ReplaceServices([]*corev1.Service{service("web", "10.96.0.1", "80")})
		p.ReplaceEndpointSlices(nil)
		p.ReplaceNodes([]*corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "here"},
			Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}}}})
		for i := range 5 {
			time.Sleep(59 * time.Second)
			if !well.Healthy() {
				t.Fatalf("not healthy after %d minutes of waiting for podCIDRs", i+1)
			}
		}
		time.Sleep(70 * time.Second)
		if well.Healthy() {
			t.Error("healthy a minute after the first try, which failed as all after it")
		}
		k.FailReads(nil)
		time.Sleep(time.Minute)
		if !well.Healthy() {
			t.Error("not healthy after all was programmed")
		}
	})
}

// eligibility is Health that notes what it is told of the node.
type eligibility struct {
	alive
	eligible *bool
}

func (e eligibility) SetNodeEligible(v bool) { *e.eligible = v }

// TestNodeWithoutObject: load balancers leave a node of a cluster out that has no Node object.
func TestNodeWithoutObject(t *testing.T) {
	for wait, want := range map[time.Duration]bool{0: true, time.Second: false} {
		eligible := true
		p := proxier.New(proxier.Config{Cluster: cluster.Config{NodeName: "here"}, Health: eligibility{alive{health.NewProxy(time.Minute)}, &eligible}, Pace: proxier.Pace{NodeWait: wait}})
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "here"}}
		for _, step := range []struct {
			list []*corev1.Node
			want bool
		}{{nil, want}, {[]*corev1.Node{node}, true}, {nil, want}} {
			if p.ReplaceNodes(step.list); eligible != step.want {
				t.Errorf("in a cluster %v, %d Nodes: eligible is %v, want %v", wait > 0, len(step.list), eligible, step.want)
			}
		}
	}
}

// TestRefusedBase: what the kernel refuses of no service's holds up no service; it is tried again.
func TestRefusedBase(t *testing.T) {
	for _, from := range []string{"the start", "later"} {
		t.Run(from, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, well := &largeKernel{}, alive{health.NewProxy(time.Minute)}
				k.Refuse(func(op rules.Op) bool { return op.Set.Kind == rules.ServiceCIDRs && len(op.Elements) > 0 })
				p, stop := runWith(t, proxier.Config{Kernel: k, Health: well})
				defer stop()
				cidr := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"},
					Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16"}}}
				if from == "the start" {
					p.UpdateServiceCIDR(cidr)
				}
				p.ReplaceServices([]*corev1.Service{service("web", "10.96.0.1", "80")})
				p.ReplaceEndpointSlices([]*discoveryv1.EndpointSlice{endpoints("w", "web", "8080", "10.0.0.1")})
				<-p.Synced()
				p.UpdateServiceCIDR(cidr)
				p.UpdateEndpointSlice(endpoints("w", "web", "8080", "10.0.0.2"))
				time.Sleep(100 * time.Millisecond)
				if s := text(k.State()); !strings.Contains(s, "10.0.0.2 . 8080") || strings.Contains(s, "10.96.0.0/16") {
					t.Errorf("the kernel has\n%s", s)
				}
				time.Sleep(5 * time.Minute)
				if tries := k.Refused(); well.Healthy() || tries < 5 || tries > 40 {
					t.Errorf("healthy %v after %d tries in 5 minutes, want not healthy after some", well.Healthy(), tries)
				}
				k.Refuse(nil)
				time.Sleep(5 * time.Minute)
				if s := text(k.State()); !well.Healthy() || !strings.Contains(s, "10.96.0.0/16") {
					t.Errorf("healthy %v after all; the kernel has\n%s", well.Healthy(), s)
				}
			})
		})
	}
}

// TestRefusedAtRestart: a service whose new endpoints the kernel refuses keeps those of before.
func TestRefusedAtRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := &rulestest.Kernel{}
		web, other := service("web", "10.96.0.1", "80"), service("other", "10.96.0.2", "80")
		n := start(t, kernel)
		n.lists(web, endpoints("w", "web", "8080", "10.0.0.1 10.0.0.2 10.0.0.3"), other, endpoints("o", "other", "8080", "10.0.0.4"))
		n.stop()
		kernel.Refuse(func(op rules.Op) bool {
			return op.Chain.Name == "service/default/web" && op.Kind == rules.ReplaceChain
		})
		n = start(t, kernel)
		defer n.stop()
		n.lists(web, endpoints("w", "web", "8080", "10.0.0.1 10.0.0.5"), other, endpoints("o", "other", "8080", "10.0.0.6"))
		n.expect("10.96.0.1:80", "10.0.0.1:8080 10.0.0.2:8080 10.0.0.3:8080")
		n.expect("10.96.0.2:80", "10.0.0.6:8080")
		kernel.Refuse(nil)
		time.Sleep(time.Minute)
		n.expect("10.96.0.1:80", "10.0.0.1:8080 10.0.0.5:8080")
	})
}
