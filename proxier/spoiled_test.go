// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// spoiledKernel is one whose tables another program takes away just before transactions, so many times.
type spoiledKernel struct {
	*rulestest.Kernel
	times chan struct{} // one value for each
}

func (k spoiledKernel) Apply(tx rules.Tx) error {
	select {
	case <-k.times:
		k.Tamper(func(s *rules.State) { s.Tables = [2]*rules.Table{} })
	default:
	}
	return k.Kernel.Apply(tx)
}

// TestSpoiledCommits: where another program takes the tables away just before a change of a Service is programmed, be it again and
// again, that is not the Service's fault: it is not set aside.
func TestSpoiledCommits(t *testing.T) {
	for times := range 8 {
		synctest.Test(t, func(t *testing.T) {
			kernel := spoiledKernel{&rulestest.Kernel{}, make(chan struct{}, 10)}
			n := startWith(t, kernel.Kernel, func(c *proxier.Config) { c.Kernel = kernel })
			defer n.stop()
			n.lists(service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1"),
				service("other", "10.96.0.2", "80"), endpoints("b", "other", "8080", "10.0.0.7"))
			for range times {
				kernel.times <- struct{}{}
			}
			n.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.2"))
			time.Sleep(5 * time.Second)
			synctest.Wait()
			n.expect("10.96.0.1:80", "10.0.0.2:8080")
			n.expect("10.96.0.2:80", "10.0.0.7:8080")
			if log := n.log.String(); strings.Contains(log, "Service port is not programmed") {
				t.Errorf("spoiled %d times, the Service is to blame:\n%s", times, log)
			}
		})
	}
}

// TestFlowsOfRepairs: after a repair only those flows are looked for that it may have made stale; and after many repairs not each
// time.
func TestFlowsOfRepairs(t *testing.T) {
	single := rules.SetID{Kind: rules.Single}
	for name, tt := range map[string]struct {
		things []rules.Thing
		spoil  func(s *rules.State)
		want   []string
	}{
		"an endpoint": {[]rules.Thing{{Kind: rules.ThingElement, Name: single.Name(), Key: frontend("10.96.0.1")}},
			func(s *rules.State) { delete(s.Tables[rules.IPv4].Sets[single], frontend("10.96.0.1")) }, []string{"10.96.0.1 [10.0.0.1:8080]"}},
		"what serves nothing": {[]rules.Thing{{Kind: rules.ThingElement, Name: "cluster-ips", Key: rules.Key{Addr: frontend("10.96.0.9").Addr}}},
			func(s *rules.State) {
				s.Tables[rules.IPv4].Sets[rules.SetID{Kind: rules.ClusterIPs}][rules.Key{Addr: frontend("10.96.0.9").Addr}] = rules.Value{}
			}, nil},
		"all": {nil, func(s *rules.State) { s.Tables = [2]*rules.Table{} }, []string{"10.96.0.1 [10.0.0.1:8080]", "10.96.0.2 [10.0.0.7:8080]"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kernel, changed := &rulestest.Kernel{}, make(chan struct{}, 1)
				tracking := &slowConntrack{takes: 10 * time.Millisecond}
				p, stop := runWith(t, proxier.Config{Kernel: kernel, Conntrack: tracking, Foreign: proxier.Foreign{Changed: changed,
					Touched: func() rules.Touched { return rules.Touched{Things: tt.things} }}})
				defer stop()
				p.ReplaceServices(nil)
				p.ReplaceEndpointSlices(nil)
				p.UpdateService(service("web", "10.96.0.1", "80"))
				p.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.1"))
				p.UpdateService(service("other", "10.96.0.2", "80"))
				p.UpdateEndpointSlice(endpoints("b", "other", "8080", "10.0.0.7"))
				time.Sleep(time.Minute)
				tracking.forget(nil)
				const long, every = 15 * time.Second, 100 * time.Millisecond
				for range long / every {
					kernel.Tamper(tt.spoil)
					changed <- struct{}{}
					time.Sleep(every)
				}
				time.Sleep(time.Minute)
				seen := tracking.seen()
				slices.Sort(seen)
				if got := slices.Compact(slices.Clone(seen)); !slices.Equal(got, tt.want) {
					t.Errorf("looked for %q, want %q", got, tt.want)
				}
				if most := 12 * len(tt.want); len(seen) > most {
					t.Errorf("looked for flows of a Service %d times, want at most %d", len(seen), most)
				}
			})
		})
	}
}
