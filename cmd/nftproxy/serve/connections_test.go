// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/inspect"
)

// TestConnectionsAtOnce: of two readings at once each connection is counted once.
func TestConnectionsAtOnce(t *testing.T) {
	var mu sync.Mutex
	readings, second := 0, make(chan struct{})
	c := &Connections{log: klog.Background(),
		portAt: func(rules.Frontend) (rules.ServicePortName, bool) {
			return rules.ServicePortName{Name: "web"}, true
		},
		read: func() ([]inspect.Connections, error) {
			mu.Lock()
			readings++
			n := uint64(readings)
			mu.Unlock()
			if n == 2 {
				close(second)
			}
			if n == 1 { // what it has read is old by the time that it is counted
				select {
				case <-second:
					time.Sleep(10 * time.Millisecond)
				case <-time.After(100 * time.Millisecond):
				}
			}
			return []inspect.Connections{{Counter: rules.Counter{Packets: 10 * n}}}, nil
		}}
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() { c.Collect(make(chan prometheus.Metric, 1)) })
	}
	both.Wait()
	for _, n := range c.totals {
		if n != 20 {
			t.Errorf("%v connections were counted, want 20", n)
		}
	}
}
