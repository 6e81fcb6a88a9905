// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// Which endpoints get connections. Every row holds for TCP, UDP and SCTP, over
// IPv4 and IPv6, from a pod, from the node and from outside.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	a, b, c, d := w.Local[0], w.RemotePods[0], w.RemotePods[1], w.Local[1]
	list := func(lists ...[]endpoint) [][]endpoint { return lists }
	rows := []struct {
		name string
		has  [][]endpoint
		want expected
	}{
		{"one ready", list(ready(a)), spread(a)},
		{"two ready", list(ready(a, b)), spread(a, b)},
		{"three ready", list(ready(a, b, c)), spread(a, b, c)},
		{"seven ready", list(ready(a, d), ready(w.RemotePods...)), spread(append([]netns.Host{a, d}, w.RemotePods...)...)},
		{"conditions that nobody has stated", list(plain(a, b)), spread(a, b)},
		{"ready and others", list(ready(a, b), unready(c), draining(d)), spread(a, b)},
		{"serving and terminating where none is ready", list(unready(a), draining(b, c), ending(d)), spread(b, c)},
		{"one serving and terminating", list(draining(b)), spread(b)},
		{"none usable", list(unready(a, b), ending(c)), refused()},
		{"none", nil, refused()},
	}
	services := make([]*svc, len(rows))
	for i, r := range rows {
		services[i] = w.service(nameOf(r.name)).to(r.has...)
	}
	w.apply(t, services...)
	for i, r := range rows {
		t.Run(r.name, func(t *testing.T) { w.wantEverywhere(t, services[i], r.want) })
	}
	t.Run("a port that the service does not have", func(t *testing.T) {
		each(t, func(t *testing.T, p traffic.Protocol, f netns.Family) {
			for _, from := range w.clients() {
				w.want(t, from, p, services[0].at(f, servicePort+1), refused())
			}
		})
	})
}

// Endpoints come and go.
func TestEndpointsChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	a, b, c := w.Local[0], w.RemotePods[0], w.RemotePods[1]
	s := w.service("web")
	steps := []struct {
		name string
		has  []endpoint
		want expected
	}{
		{"two", ready(a, b), spread(a, b)},
		{"emptied", nil, refused()},
		{"filled again", ready(a, b, c), spread(a, b, c)},
		{"one left", ready(c), spread(c)},
		{"another one", ready(a), spread(a)},
		{"not ready any more", unready(a), refused()},
		{"ready again", ready(a, c), spread(a, c)},
		{"all of them draining", draining(a, c), spread(a, c)},
		{"gone", ending(a, c), refused()},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			w.apply(t, s.to(step.has))
			w.wantEverywhere(t, s, step.want)
		})
	}
	t.Run("the service itself is gone", func(t *testing.T) {
		w.apply(t, s.to(ready(a, b)))
		w.remove(t, s)
		w.wantEverywhere(t, s, dropped())
	})
}
