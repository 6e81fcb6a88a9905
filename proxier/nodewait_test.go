// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// TestNodeWait: nothing is written before the Node object has come, or its time is over.
func TestNodeWait(t *testing.T) {
	const soon = 5 * time.Second
	here := func(change func(*corev1.Node)) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "here"}}
		change(n)
		return n
	}
	bare := here(func(*corev1.Node) {})
	addressed := here(func(n *corev1.Node) {
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "172.18.0.2"}}
	})
	full := here(func(n *corev1.Node) {
		n.Status.Addresses, n.Spec.PodCIDRs = addressed.Status.Addresses, []string{"10.244.1.0/24"}
	})
	for _, test := range []struct {
		name     string
		nodeCIDR bool
		comes    *corev1.Node // after 5 s
		missing  string       // in the log
		took     time.Duration
		over     bool
	}{
		{"it comes", false, addressed, "the Node object; if this is not its name", soon, false},
		{"it has no address", false, bare, "an address in the Node object's status", 30 * time.Second, true},
		{"it does not come", false, nil, "the Node object; if this is not its name", 30 * time.Second, true},
		{"its podCIDRs come", true, full, "the Node object; if this is not its name", soon, false},
		{"its podCIDRs do not come", true, addressed, "podCIDRs in the Node object's spec", 5 * time.Minute, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				kernel := &rulestest.Kernel{}
				p, stop := runWith(t, proxier.Config{Cluster: cluster.Config{DetectNodeCIDR: test.nodeCIDR}, Kernel: kernel, Logger: funcr.New(func(_, args string) { log.WriteString(args + "\n") }, funcr.Options{}), Pace: proxier.Pace{NodeWait: 30 * time.Second}})
				defer stop()
				p.ReplaceServices(nil)
				p.ReplaceEndpointSlices(nil)
				began := time.Now()
				synctest.Wait()
				if kernel.State().Tables != [2]*rules.Table{} {
					t.Error("something was written before the Node came")
				}
				time.Sleep(soon)
				if test.comes != nil {
					p.UpdateNode(test.comes)
				}
				<-p.Synced()
				if took := time.Since(began); took != test.took {
					t.Errorf("written after %v, want %v", took, test.took)
				}
				synctest.Wait()
				if text := log.String(); !strings.Contains(text, test.missing) || strings.Contains(text, "Going on without") != test.over {
					t.Errorf("the log lacks %q, or what it should not:\n%s", test.missing, text)
				}
			})
		})
	}
}
