// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// apiPort is where API servers are.
const apiPort = 6443

// A Service that has the API server's address does not shut the node out: not while nftproxy runs, and not after
// a restart, when the kernel's rules still lead its connections to that Service.
func TestAPIServerAddress(t *testing.T) {
	t.Parallel()
	for _, endpoints := range []string{"one", "several"} {
		for _, f := range netns.Families() {
			t.Run(endpoints+" "+f.String(), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, config{})
				at := netip.AddrPortFrom(w.Outside.Addr(f), apiPort)
				hosts := w.RemotePods[:1]
				if endpoints == "several" {
					hosts = w.RemotePods[:3]
				}
				takes := func(name string) *svc {
					return w.service(name, port("api", traffic.TCP, apiPort, backendPort), func(s *corev1.Service) {
						s.Spec.ExternalIPs = []string{at.Addr().String()}
					}).to(ready(hosts...))
				}
				thief := takes("thief")
				w.apply(t, thief) // a source without an API server: there is nothing to refuse
				w.want(t, w.Node, traffic.TCP, at, spread(hosts...).seen(anySource))
				w.stop(t)

				api := serveAPI(t, w.Outside, at.String(), thief)
				w.startAtAPI(t, "--master", "http://"+at.String())
				w.wantLog(t, "The kernel's rules of an earlier run lead connections to the API server astray")
				w.wantLog(t, "Not served: this node reaches its API server there")
				free := func() {
					t.Helper()
					if answer := get(t, w.Node, at.String(), "/api/v1/nodes"); !strings.Contains(answer, `"NodeList"`) {
						t.Errorf("the node got from its API server: %s", answer)
					}
				}
				free()
				w.want(t, w.Node, traffic.TCP, thief.at(f, apiPort), spread(hosts...).seen(anySource))

				// Another one comes while nftproxy runs: nftproxy still hears of what comes after it.
				after := w.service("after").to(ready(w.RemotePods[0]))
				api.add(takes("second"))
				api.add(after)
				try := longer(t)
				eventually(t, "a Service that came after the thief", func() error {
					return w.check(try(), w.Node, traffic.TCP, after.at(f, servicePort), spread(w.RemotePods[0]).seen(anySource))
				})
				free()
			})
		}
	}
}

// startAtAPI starts nftproxy with another source than manifests, and waits until it has programmed what is there.
func (w *world) startAtAPI(t *testing.T, source ...string) {
	t.Helper()
	args := append([]string{"run", "--hostname-override", "node", "--cluster-cidr", netns.ClusterCIDR4 + "," + netns.ClusterCIDR6,
		"--conntrack-max-per-core", "0", "--conntrack-tcp-timeout-established", "0", "--conntrack-tcp-timeout-close-wait", "0"}, source...)
	p, err := proxy.Start(w.process(args...))
	if err != nil {
		t.Fatal(err)
	}
	w.nftproxy = p
	if err := p.WaitSynced(patient(t)); err != nil {
		t.Fatal(errors.Join(err, errors.New(p.Log())))
	}
}
