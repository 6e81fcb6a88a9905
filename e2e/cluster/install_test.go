// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// install applies deploy/nftproxy.yaml, edited as its comments say, and waits for the DaemonSet.
func (s *site) install() {
	s.t.Helper()
	s.installWith(nil)
}

// installWith does so with more texts replaced.
func (s *site) installWith(more map[string]string) {
	s.t.Helper()
	api := s.Address()
	all := map[string]string{
		"# - name: KUBERNETES_SERVICE_HOST":         "- name: KUBERNETES_SERVICE_HOST",
		"#   value: 192.0.2.10":                     "  value: " + api.Addr().String(),
		"# - name: KUBERNETES_SERVICE_PORT":         "- name: KUBERNETES_SERVICE_PORT",
		`#   value: "6443"`:                         fmt.Sprintf("  value: \"%d\"", api.Port()),
		`clusterCIDR: "` + netns.ClusterCIDR4 + `"`: `clusterCIDR: "` + netns.ClusterCIDR4 + "," + netns.ClusterCIDR6 + `"`,
	}
	maps.Copy(all, more)
	s.apply("deploy/nftproxy.yaml", all)
	s.waitNftproxy()
}

// installForKubeadm applies the chart's variant that takes kubeadm's ConfigMap, and waits for the DaemonSet.
func (s *site) installForKubeadm() {
	s.t.Helper()
	s.apply("e2e/chart/testdata/kube-proxy-configmap.yaml", nil)
	s.waitNftproxy()
}

// apply applies a file of the repository with some texts replaced.
func (s *site) apply(file string, replacements map[string]string) {
	s.t.Helper()
	must(s.t, s.Apply(s.t.Context(), s.edited(file, replacements), false))
}

// edited returns what is in a file of the repository, with each of the texts, which it
// must have once, replaced.
func (s *site) edited(file string, replacements map[string]string) string {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(repository, file))
	must(s.t, err)
	text := string(data)
	for old, replacement := range replacements {
		if n := strings.Count(text, old); n != 1 {
			s.t.Fatalf("%s has %d times %q, want it once", file, n, old)
		}
		text = strings.Replace(text, old, replacement, 1)
	}
	return text
}

// kubeadmConfigMap makes the ConfigMap kube-proxy as kubeadm does: the configuration
// is as it comes, in the kubeconfig is the API server's address.
func (s *site) kubeadmConfigMap() {
	s.t.Helper()
	configMap := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-proxy", Labels: map[string]string{"app": "kube-proxy"}},
		Data: map[string]string{
			"config.conf":     s.edited("e2e/testdata/kubeadm-kube-proxy.conf", nil),
			"kubeconfig.conf": s.edited("e2e/testdata/kubeadm-kubeconfig.conf", map[string]string{"192.0.2.10:6443": s.Address().String()}),
		},
	}
	_, err := s.Client().CoreV1().ConfigMaps("kube-system").Create(s.t.Context(), configMap, metav1.CreateOptions{})
	must(s.t, err)
}

// waitNftproxy waits until the present generation of the DaemonSet is available on both nodes.
func (s *site) waitNftproxy() {
	s.t.Helper()
	must(s.t, Poll(s.t.Context(), stepTimeout, func(ctx context.Context) error {
		ds, err := s.Client().AppsV1().DaemonSets("kube-system").Get(ctx, "nftproxy", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !daemonSetDone(ds, 2) {
			return fmt.Errorf("DaemonSet nftproxy: %+v", ds.Status)
		}
		return nil
	}))
}

func daemonSetDone(ds *appsv1.DaemonSet, n int32) bool {
	st := ds.Status
	return st.ObservedGeneration == ds.Generation && st.UpdatedNumberScheduled == n && st.NumberAvailable == n && st.DesiredNumberScheduled == n
}

// nftproxy returns the process ID of the nftproxy that runs on a node, and its command line.
func (s *site) nftproxy(n *Node) (int, string) {
	s.t.Helper()
	var commandLine string
	pid, err := findProcess(n.NS, func(cmdline, _ string) bool {
		commandLine = cmdline
		return strings.HasPrefix(cmdline, "\x00/nftproxy\x00run\x00")
	})
	if err != nil {
		s.t.Fatalf("find nftproxy on %s: %v", n.Name(), err)
	}
	return pid, commandLine
}

// inNftproxy runs nftproxy's program once more, in the container of each node's
// nftproxy, and returns what it printed on each and whether it failed.
func (s *site) inNftproxy(args ...string) map[string]answer {
	s.t.Helper()
	pods, err := s.Client().CoreV1().Pods("kube-system").List(s.t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=nftproxy"})
	must(s.t, err)
	answers := map[string]answer{}
	for _, p := range pods.Items {
		for _, n := range s.Nodes {
			if n.Name() == p.Spec.NodeName && p.DeletionTimestamp == nil {
				id := strings.TrimPrefix(p.Status.ContainerStatuses[0].ContainerID, "containerd://")
				out, err := n.exec(id, append([]string{"/nftproxy"}, args...))
				answers[n.Name()] = answer{out, err}
			}
		}
	}
	if len(answers) != len(s.living()) {
		s.t.Fatalf("nftproxy runs on %d nodes, want %d", len(answers), len(s.living()))
	}
	return answers
}

// answer is what a program printed, and how it ended.
type answer struct {
	text string
	err  error
}
