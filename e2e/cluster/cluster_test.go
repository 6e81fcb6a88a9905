// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const repository = "../.."

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site is the cluster with nftproxy on it.
type site struct {
	*Cluster
	t *testing.T
}

// newSite starts a cluster of two nodes. It ends with the test.
func newSite(t *testing.T) *site {
	t.Helper()
	bin, err := filepath.Abs(filepath.Join(repository, "bin/cluster"))
	must(t, err)
	for _, program := range []string{"containerd", "containerd-shim-runc-v2", "ctr", "images.tar"} {
		if _, err := os.Stat(filepath.Join(bin, program)); err != nil {
			t.Fatalf("%v: run 'make e2e-cluster', which builds it", err)
		}
	}
	c, err := Start(t.Context(), Config{Nodes: 2, BinDir: bin, Logf: t.Logf, Images: []string{
		filepath.Join(bin, "images.tar"), filepath.Join(repository, "dist/nftproxy-image.tar")}})
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Logs())
		}
		must(t, c.Stop())
	})
	return &site{Cluster: c, t: t}
}

// install applies deploy/nftproxy.yaml, edited as its comments say, and waits for the DaemonSet.
func (s *site) install() {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(repository, "deploy/nftproxy.yaml"))
	must(s.t, err)
	must(s.t, s.Apply(s.t.Context(), edited(s.t, string(data), s), false))
	s.waitDaemonSet(2)
}

// edited uncomments the API server's address in the manifests and fills it in.
func edited(t *testing.T, text string, s *site) string {
	t.Helper()
	api := s.Address()
	for old, replacement := range map[string]string{
		"# - name: KUBERNETES_SERVICE_HOST": "- name: KUBERNETES_SERVICE_HOST",
		"#   value: 192.0.2.10":             "  value: " + api.Addr().String(),
		"# - name: KUBERNETES_SERVICE_PORT": "- name: KUBERNETES_SERVICE_PORT",
		`#   value: "6443"`:                 fmt.Sprintf("  value: %q", fmt.Sprint(api.Port())),
	} {
		if strings.Count(text, old) != 1 {
			t.Fatalf("deploy/nftproxy.yaml has not one line %q", old)
		}
		text = strings.Replace(text, old, replacement, 1)
	}
	return text
}

// waitDaemonSet waits until nftproxy's present generation is available on n nodes.
func (s *site) waitDaemonSet(n int32) {
	s.t.Helper()
	must(s.t, Poll(s.t.Context(), 2*time.Minute, func(ctx context.Context) error {
		ds, err := s.Client().AppsV1().DaemonSets("kube-system").Get(ctx, "nftproxy", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if daemonSetDone(ds, n) {
			return nil
		}
		return fmt.Errorf("DaemonSet nftproxy: %+v", ds.Status)
	}))
}

func daemonSetDone(ds *appsv1.DaemonSet, n int32) bool {
	st := ds.Status
	return st.ObservedGeneration == ds.Generation && st.UpdatedNumberScheduled == n && st.NumberAvailable == n && st.DesiredNumberScheduled == n
}

func TestCluster(t *testing.T) {
	s := newSite(t)
	s.install()
}
