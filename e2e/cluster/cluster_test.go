// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// TestCluster goes through the life of a cluster whose only service proxy is
// nftproxy's DaemonSet. The steps build on each other.
func TestCluster(t *testing.T) {
	s := newSite(t, 2, fastControllers...)
	s.install()
	s.openShop()
	for _, step := range []struct {
		name string
		run  func(*site)
	}{
		{"every service answers round robin across both nodes", func(s *site) { s.want() }},
		{"headless", (*site).headless},
		{"no other proxy", (*site).noOtherProxy},
		{"hardened", (*site).hardened},
		{"verify", (*site).verify},
		{"kubectl nftproxy", (*site).plugin},
		{"rolling update of the Deployment", (*site).updateDeployment},
		{"rolling update of the DaemonSet", (*site).updateDaemonSet},
		{"update of the DaemonSet with maxSurge", (*site).surgeDaemonSet},
		{"kubeadm's ConfigMap", (*site).takeKubeadmConfigMap},
		{"kill nftproxy", (*site).killNftproxy},
		{"delete a pod", (*site).deletePod},
		{"cordon", (*site).cordon},
		{"a node goes away", (*site).loseNode},
	} {
		s.t = t
		if !t.Run(step.name, func(t *testing.T) {
			s.t = t
			step.run(s)
		}) {
			t.Fatal("the further steps need this one")
		}
	}
	s.t = t
}

// verify runs the commands of deploy/README.md's section of that name in nftproxy's pods.
func (s *site) verify() {
	for command, want := range map[string]string{
		"check":                      "none, and nothing left of one",
		"explain default/kubernetes": "goes to " + s.Address().String(),
		"explain " + shop + "/web":   "The kernel holds just that.",
		"diff":                       "equal: the kernel holds just what",
	} {
		for node, a := range s.inNftproxy(strings.Fields(command)...) {
			if a.err != nil || !strings.Contains(a.text, want) { // without an API server each takes a minute
				s.t.Fatalf("nftproxy %s on %s, want %q: %v\n%s", command, node, want, a.err, a.text)
			}
		}
	}
}

// unknown: nftproxy has nothing for a Service, which it does not ask the API server for, and says so.
func (s *site) unknown(service string) {
	want := "there is no Service " + shop + "/" + service + " with a ClusterIP"
	for _, command := range []string{"explain " + shop + "/" + service, "dump --service " + shop + "/" + service} {
		for node, a := range s.inNftproxy(strings.Fields(command)...) {
			if a.err == nil || !strings.Contains(a.text, want) {
				s.t.Errorf("nftproxy %s on %s, want an error with %q: %v\n%s", command, node, want, a.err, a.text)
			}
		}
	}
	for node, a := range s.inNftproxy("dump", "--kernel") {
		if a.err != nil || !strings.Contains(a.text, "service/"+shop+"/web/tcp ") || strings.Contains(a.text, service) {
			s.t.Errorf("nftproxy dump --kernel on %s, want something of web and nothing of %s: %v\n%s", node, service, a.err, a.text)
		}
	}
}

// restart is `kubectl rollout restart`.
func restart(value string) []byte {
	return fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`, value)
}

func (s *site) updateDeployment() {
	before, err := s.backends(s.t.Context(), "web", netns.IPv4)
	must(s.t, err)
	s.under("a rolling update of the Deployment", func() {
		_, err := s.Client().AppsV1().Deployments(shop).Patch(s.t.Context(), "web", types.StrategicMergePatchType, restart("1"), metav1.PatchOptions{})
		must(s.t, err)
		s.waitWeb(4)
		s.waitGone(before)
	})
	s.want()
}

// waitGone waits until the pods with the addresses have ended.
func (s *site) waitGone(old []netip.AddrPort) {
	s.t.Helper()
	must(s.t, Poll(s.t.Context(), time.Minute, func(ctx context.Context) error {
		list, err := s.Client().CoreV1().Pods(shop).List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
		if err != nil {
			return err
		}
		for _, p := range list.Items {
			for _, a := range old {
				if p.Status.PodIP == a.Addr().String() {
					return fmt.Errorf("pod %s is still there", p.Name)
				}
			}
		}
		return nil
	}))
}

func (s *site) updateDaemonSet() {
	s.under("a rolling update of the DaemonSet", func() {
		_, err := s.Client().AppsV1().DaemonSets("kube-system").Patch(s.t.Context(), "nftproxy", types.StrategicMergePatchType, restart("1"), metav1.PatchOptions{})
		must(s.t, err)
		s.waitNftproxy()
	})
	s.want()
}

// takeKubeadmConfigMap: the DaemonSet takes kubeadm's ConfigMap as it is, and goes back to its own.
func (s *site) takeKubeadmConfigMap() {
	s.kubeadmConfigMap()
	s.under("going over to kubeadm's ConfigMap", s.installForKubeadm)
	for _, n := range s.Nodes {
		if _, args := s.nftproxy(n); !strings.Contains(args, "\x00--config=/var/lib/kube-proxy/config.conf\x00") {
			s.t.Errorf("nftproxy on %s does not run with kubeadm's ConfigMap: %q", n.Name(), args)
		}
	}
	s.want()
	s.verify()
	s.deletePod() // the old rules would do for all else
	s.under("going back from kubeadm's ConfigMap", s.install)
	s.want()
	s.verify()
}

// killNftproxy kills nftproxy on the first node; its kubelet starts it again.
func (s *site) killNftproxy() {
	node := s.Nodes[0].Name()
	s.under("kill -9 of nftproxy", func() {
		pid, _ := s.nftproxy(s.Nodes[0])
		must(s.t, unix.Kill(pid, unix.SIGKILL))
		must(s.t, Poll(s.t.Context(), time.Minute, func(ctx context.Context) error {
			list, err := s.Client().CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
			if err != nil {
				return err
			}
			for _, p := range list.Items {
				if len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].RestartCount == 1 && ready(p) {
					return nil
				}
			}
			return fmt.Errorf("nftproxy was not started again on %s", node)
		}))
	})
	s.want()
}

func (s *site) deletePod() {
	pods, err := s.pods(s.t.Context(), "app=web")
	must(s.t, err)
	s.under("deleting a pod", func() {
		must(s.t, s.Client().CoreV1().Pods(shop).Delete(s.t.Context(), pods[0].Name, metav1.DeleteOptions{}))
		s.waitGone([]netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(pods[0].Status.PodIP), backendPort)})
		s.waitWeb(4)
	})
	s.want()
}

// cordon: new pods go to the other node, and Services go on to use those that are there.
func (s *site) cordon() {
	node := s.Nodes[1].Name()
	s.unschedulable(node, true)
	before := s.onNode(node)
	s.under("cordoning a node", func() {
		_, err := s.Client().AppsV1().Deployments(shop).Patch(s.t.Context(), "web", types.MergePatchType, []byte(`{"spec":{"replicas":6}}`), metav1.PatchOptions{})
		must(s.t, err)
		s.waitWeb(6)
	})
	if after := s.onNode(node); after != before || before == 0 {
		s.t.Errorf("%d web pods on the cordoned %s, there were %d", after, node, before)
	}
	s.want()
	s.unschedulable(node, false)
}

func (s *site) unschedulable(node string, yes bool) {
	s.t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, yes)
	_, err := s.Client().CoreV1().Nodes().Patch(s.t.Context(), node, types.MergePatchType, patch, metav1.PatchOptions{})
	must(s.t, err)
}

func (s *site) onNode(node string) int {
	s.t.Helper()
	pods, err := s.pods(s.t.Context(), "app=web")
	must(s.t, err)
	n := 0
	for _, p := range pods {
		if p.Spec.NodeName == node {
			n++
		}
	}
	return n
}
