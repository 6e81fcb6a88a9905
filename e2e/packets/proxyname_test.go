// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/rules"
)

const proxyNameLabel = "service.kubernetes.io/service-proxy-name"

// labelled gives the service and its slices a label.
func (s *svc) labelled(name, value string) *svc {
	s.Labels = map[string]string{name: value}
	for _, es := range s.slices {
		es.Labels[name] = value
	}
	return s
}

// Two nftproxies serve one node, each the Services of its name, and neither minds
// the other's: not even that the addresses are in the ServiceCIDR.
func TestServiceProxyName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	a, b := w.Local[0], w.RemotePods[0]
	plain := w.service("plain").to(ready(a, b))
	theirs := w.service("theirs").to(ready(a, b)).labelled(proxyNameLabel, "other")
	headless := w.service("headless").to(ready(a, b)).labelled(corev1.IsHeadlessService, "")
	w.put(t, &networkingv1.ServiceCIDR{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "ServiceCIDR"},
		ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"},
		Spec:       networkingv1.ServiceCIDRSpec{CIDRs: []string{netns.ServiceCIDR4, netns.ServiceCIDR6}},
	})
	w.apply(t, plain, theirs, headless)
	w.wantEverywhere(t, plain, spread(a, b))
	w.wantEverywhere(t, theirs, dropped())
	w.wantEverywhere(t, headless, refused()) // its slices are not ours: it is one without endpoints

	args := append([]string{"run", "--service-proxy-name", "other", "--metrics-bind-address", ""}, w.args[1:]...)
	other, err := proxy.Start(w.process(args...))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Kill()
	if err := other.WaitSynced(patient(t)); err != nil {
		t.Fatal(err)
	}
	w.wantEverywhere(t, plain, spread(a, b))
	w.wantEverywhere(t, theirs, spread(a, b))
	if err := other.Stop(); err != nil {
		t.Fatal(err)
	}
	if out := w.run(t, "cleanup", "--service-proxy-name", "other"); !strings.Contains(out, "removed 2 of the tables ip nftproxy-other and ip6 nftproxy-other") {
		t.Errorf("cleanup: %s", out)
	}
	if s := w.state(t); s.Tables == [2]*rules.Table{} {
		t.Error("cleanup of one removed the tables of the other")
	}
}
