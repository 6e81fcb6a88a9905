// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// Whom the backends see. (All rows of other tests check it, too, for ClusterIPs.)
func TestMasquerade(t *testing.T) {
	t.Parallel()
	type row struct {
		name string
		from func(w *world) netns.Host
		sees source
	}
	pod := func(w *world) netns.Host { return w.Client }
	node := func(w *world) netns.Host { return w.Node }
	outside := func(w *world) netns.Host { return w.Outside }
	backend := func(w *world) netns.Host { return w.Local[0] }
	for _, c := range []struct {
		name string
		args []string
		rows []row
	}{
		{"pod CIDRs", nil,
			[]row{{"a pod", pod, asItself}, {"the node", node, asNode}, {"outside", outside, asNode}, {"a backend", backend, asClusterIP}}},
		{"masquerade all", []string{"--masquerade-all"},
			[]row{{"a pod", pod, asNode}, {"the node", node, asNode}, {"outside", outside, asNode}, {"a backend", backend, asNode}}},
		{"no pod CIDRs", []string{"--cluster-cidr", ""}, // outside has routes to no pods: its answers would be lost
			[]row{{"a pod", pod, asItself}, {"a backend", backend, asClusterIP}}},
		{"another bit", []string{"--masquerade-bit", "31"},
			[]row{{"a pod", pod, asItself}, {"the node", node, asNode}, {"outside", outside, asNode}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, config{args: c.args})
			one := w.service("one").to(ready(w.Local[0]))
			two := w.service("two").to(ready(w.Local[0], w.RemotePods[0]))
			w.apply(t, one, two)
			for _, r := range c.rows {
				t.Run(r.name, func(t *testing.T) {
					from, both := r.from(w), spread(w.Local[0], w.RemotePods[0]).seen(r.sees)
					said := w.explain(t, two, from)
					each(t, func(t *testing.T, p traffic.Protocol, f netns.Family) {
						w.want(t, from, p, one.at(f, servicePort), spread(w.Local[0]).seen(r.sees))
						w.want(t, from, p, two.at(f, servicePort), both)
						w.wantSaid(t, said, from, p, two.at(f, servicePort), both)
					})
				})
			}
		})
	}
}

// A pod that reaches itself through its service sees the node, others see the pod.
func TestHairpin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{node: true})
	a, b := w.Local[0], w.Local[1]
	list := func(hosts ...netns.Host) []netns.Host { return hosts }
	rows := []struct {
		name      string
		endpoints []netns.Host
		from      []netns.Host
	}{
		{"alone", list(a), list(a)},
		{"among others", list(a, b, w.RemotePods[0]), list(a, b)},
		{"the node itself", list(w.Node), list(w.Node)},
		{"the node among others", list(w.Node, a), list(w.Node, a)},
	}
	services := make([]*svc, len(rows))
	for i, r := range rows {
		services[i] = w.service(nameOf(r.name)).to(ready(r.endpoints...))
	}
	w.apply(t, services...)
	for i, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			said := w.explain(t, services[i], r.from...)
			each(t, func(t *testing.T, p traffic.Protocol, f netns.Family) {
				for _, from := range r.from {
					w.want(t, from, p, services[i].at(f, servicePort), spread(r.endpoints...))
					w.wantSaid(t, said, from, p, services[i].at(f, servicePort), spread(r.endpoints...))
				}
			})
		})
	}
}

// TestHairpinFromOutside: a pod reaches itself through its service's NodePort and load
// balancer, too, under both external policies.
func TestHairpinFromOutside(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	a, b := w.Local[0], w.RemotePods[0]
	for name, options := range map[string][]option{"cluster": nil, "local": {externalLocal}} {
		alone := w.full("alone-"+name, options...).to(ready(a))
		among := w.full("among-"+name, options...).to(ready(a, b))
		w.apply(t, alone, among)
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, p traffic.Protocol, f netns.Family) {
				for _, fe := range []frontend{clusterIP, nodePort, loadBalancer, externalIP} {
					w.want(t, a, p, w.address(alone, fe, p, f), spread(a).seen(anySource))
					w.want(t, a, p, w.address(among, fe, p, f), spread(a, b).seen(anySource))
				}
			})
		})
	}
}

// Of the packet mark only the masquerade bit is ours, and nobody sees it afterwards: not where a pod
// reaches itself by a way that is masqueraded anyhow.
func TestMarkOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	s := w.service("web").to(ready(w.Local[0], w.RemotePods[0]))
	self := w.full("self").to(ready(w.Local[0]))
	w.apply(t, s, self)
	const others = 0x80010003
	for _, f := range netns.Families() {
		watch := newMarkWatch(t, w, f, others)
		var made uint64
		for _, p := range traffic.Protocols() {
			for _, from := range w.clients() {
				w.want(t, from, p, s.at(f, servicePort), spread(w.Local[0], w.RemotePods[0]))
				made += 2 * rounds
			}
			w.want(t, w.Local[0], p, w.address(self, loadBalancer, p, f), spread(w.Local[0]).seen(anySource))
			made += rounds
		}
		kept, changed := watch.count(t)
		if kept < made || changed != 0 {
			t.Errorf("%s: after %d connections %d packets left with the mark that they came with, %d with another", f, made, kept, changed)
		}
	}
}
