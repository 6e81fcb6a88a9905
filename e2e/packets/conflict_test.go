// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// created makes the service as old as that many hours.
func created(hours int) option {
	at := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(-time.Duration(hours) * time.Hour))
	return func(s *corev1.Service) { s.CreationTimestamp = at }
}

// Of two services with the same address, protocol and port the older one is served,
// whichever came first to this node, and the other one at its own addresses. When
// the older one goes, the other takes over.
func TestConflicts(t *testing.T) {
	t.Parallel()
	for _, fe := range external {
		t.Run(fe.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
			a, b := w.Local[0], w.RemotePods[0]
			first := w.full("first", created(1)).to(ready(a))
			second := w.full("second", created(2), func(s *corev1.Service) {
				switch fe {
				case nodePort:
					for i := range s.Spec.Ports {
						s.Spec.Ports[i].NodePort = first.Spec.Ports[i].NodePort
					}
				case loadBalancer:
					s.Status = first.Status
				case externalIP:
					s.Spec.ExternalIPs = first.Spec.ExternalIPs
				}
			}).to(ready(b))
			want := func(t *testing.T, s *svc, at []frontend, host netns.Host) {
				t.Helper()
				for _, p := range traffic.Protocols() {
					for _, f := range netns.Families() {
						for _, fe := range at {
							w.want(t, w.Client, p, w.address(s, fe, p, f), spread(host).seen(anySource))
						}
					}
				}
			}
			var others []frontend
			for _, o := range []frontend{clusterIP, nodePort, loadBalancer, externalIP} {
				if o != fe {
					others = append(others, o)
				}
			}
			same := []frontend{fe}
			w.apply(t, first)
			want(t, first, same, a)
			w.apply(t, second) // older
			want(t, second, same, b)
			want(t, first, others, a)
			want(t, second, others, b)
			w.wantLog(t, `"Not served: an older service has this address, protocol and port" servicePort="test/first:tcp (ip)"`)
			w.remove(t, second)
			want(t, first, same, a)
			w.apply(t, second)
			want(t, second, same, b)
			second.CreationTimestamp = metav1.Time{Time: first.CreationTimestamp.Add(time.Hour)} // made anew
			w.apply(t, second)
			want(t, first, same, a)
			want(t, second, others, b)
		})
	}
}
