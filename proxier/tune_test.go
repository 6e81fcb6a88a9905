// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// counter says how many connections are open.
type counter struct {
	mu    sync.Mutex
	open  map[string]uint32 // by address
	busy  time.Duration
	err   error
	times []time.Time // when it was asked
}

func (c *counter) Clean(context.Context, []conntrack.Target, func() []conntrack.Target) (conntrack.Deleted, error) {
	return conntrack.Deleted{}, nil
}

func (c *counter) CountOpen(_ context.Context, backends map[rules.Backend]uint32) (time.Duration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times = append(c.times, time.Now())
	for b := range backends {
		backends[b] = c.open[b.Addr.Addr().String()]
	}
	return c.busy, c.err
}

func (c *counter) set(open map[string]uint32, busy time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open, c.busy, c.err, c.times = open, busy, err, nil
}

func (c *counter) asked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.times)
}

// slots returns how many slots lead to each endpoint.
func (n *node) slots() string {
	count, most := map[netip.AddrPort]int{}, 0
	for id, set := range n.kernel.State().Tables[rules.IPv4].Sets {
		if id.Kind == rules.Endpoints {
			for _, v := range set {
				count[v.To]++
				most++
			}
		}
	}
	var out []string
	for i := range 4 {
		if n := count[netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 8080)]; n > 0 {
			out = append(out, fmt.Sprint(n))
		}
	}
	return strings.Join(out, " ")
}

// TestLeastConnections: slots follow the counts, once a period at most, and longer where counting takes long; whatever fails, they stay.
func TestLeastConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counter{}
		n := startWith(t, &rulestest.Kernel{}, func(config *proxier.Config) { config.Conntrack = c })
		defer n.stop()
		web := service("web", "10.96.0.1", "80")
		n.lists(web, endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2"))
		time.Sleep(10 * time.Second)
		if got := c.asked(); got != 0 {
			t.Errorf("counted %d times for nobody", got)
		}
		web = web.DeepCopy()
		web.Annotations = map[string]string{"nftproxy.io/scheduler": "least-connections"}
		n.UpdateService(web)
		synctest.Wait()
		expect := func(what, want string) {
			t.Helper()
			time.Sleep(1500 * time.Millisecond)
			synctest.Wait()
			if got := n.slots(); got != want {
				t.Errorf("%s: slots %s, want %s", what, got, want)
			}
		}
		expect("none are open", "32 32")
		before := n.kernel.State().Tables[rules.IPv4].Chains["service/default/web"]
		c.set(map[string]uint32{"10.0.0.1": 100}, 0, nil)
		expect("100 at one", "1 63")
		c.set(map[string]uint32{"10.0.0.1": 100, "10.0.0.2": 100}, 0, nil)
		expect("100 at both", "32 32")
		c.set(map[string]uint32{"10.0.0.1": 100}, 0, errors.New("no"))
		expect("it fails", "32 32")
		c.set(map[string]uint32{"10.0.0.1": 100}, time.Second, nil)
		time.Sleep(10 * time.Minute)
		if got := c.asked(); got < 25 || got > 32 {
			t.Errorf("counted %d times in ten minutes, each of which takes a second, want a twentieth of the time", got)
		}
		if now := n.kernel.State().Tables[rules.IPv4].Chains["service/default/web"]; !now.Equal(before) {
			t.Error("the rule has changed, and with it the counter")
		}
		n.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2 10.0.0.3"))
		synctest.Wait()
		c.set(map[string]uint32{"10.0.0.1": 100, "10.0.0.2": 100}, 0, nil)
		time.Sleep(time.Minute)
		expect("a new one", "3 2 59")
	})
}

// TestLeastConnectionsOverRestart: a restart counts first, and so has nothing to write; but it waits for no count for long.
func TestLeastConnectionsOverRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel, c := &rulestest.Kernel{}, &counter{open: map[string]uint32{"10.0.0.1": 100}}
		web := service("web", "10.96.0.1", "80")
		web.Annotations = map[string]string{"nftproxy.io/scheduler": "least-connections"}
		objects := []any{web, endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2")}
		for _, what := range []string{"the first start", "a restart"} {
			n := startWith(t, kernel, func(config *proxier.Config) { config.Conntrack = c })
			n.lists(objects...)
			time.Sleep(time.Minute)
			synctest.Wait()
			if got, want := n.slots(), "1 63"; got != want {
				t.Errorf("%s: slots %s, want %s", what, got, want)
			}
			n.stop()
			if tx := kernel.Applied(); len(tx) > 0 && what == "a restart" {
				t.Errorf("a restart wrote %+v", tx[0].Ops())
			}
		}
		n := startWith(t, &rulestest.Kernel{}, func(config *proxier.Config) { config.Conntrack = stuck{c} })
		defer n.stop()
		begun := time.Now()
		n.lists(objects...)
		<-n.Synced()
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("the first commit waited %v for a count", took)
		}
	})
}

// TestLeastConnectionsBeforeEndpoints: a Service that asks for counts before it has endpoints gets them as soon as it has some.
func TestLeastConnectionsBeforeEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counter{open: map[string]uint32{"10.0.0.1": 100}}
		n := startWith(t, &rulestest.Kernel{}, func(config *proxier.Config) { config.Conntrack = c })
		defer n.stop()
		web := service("web", "10.96.0.1", "80")
		web.Annotations = map[string]string{"nftproxy.io/scheduler": "least-connections"}
		n.lists()
		n.UpdateService(web)
		time.Sleep(time.Minute)
		if got := c.asked(); got != 0 {
			t.Errorf("counted %d times though there is nothing to count", got)
		}
		n.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2"))
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if got, want := n.slots(), "1 63"; got != want {
			t.Errorf("slots %s, want %s", got, want)
		}
	})
}

// stuck is a counter that does not come to an end by itself.
type stuck struct{ *counter }

func (stuck) CountOpen(ctx context.Context, _ map[rules.Backend]uint32) (time.Duration, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

// TestSlowStart: the slots of a new endpoint grow; then the rules are as if there had been no slow start.
func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		web := service("web", "10.96.0.1", "80")
		web.Annotations = map[string]string{"nftproxy.io/slow-start": "9s"}
		n.lists(web, endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2"))
		n.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2 10.0.0.3"))
		var got []string
		for range 12 {
			time.Sleep(time.Millisecond)
			synctest.Wait()
			if s := n.slots(); len(got) == 0 || got[len(got)-1] != s {
				got = append(got, s)
			}
			time.Sleep(999 * time.Millisecond)
		}
		if text, want := strings.Join(got, ", "), "31 30 3, 29 29 6, 28 28 8, 27 27 10, 26 25 13, 25 24 15, 24 24 16, 23 23 18, 22 22 20, 1 1 1"; text != want {
			t.Errorf("slots %s, want %s", text, want)
		}
	})
}

// TestSettle: a new endpoint gets nothing at first, unless it is the only one that is ready.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		web := service("web", "10.96.0.1", "80")
		web.Annotations = map[string]string{"nftproxy.io/settle": "2s"}
		n.lists(web, endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2"))
		for _, step := range []struct{ ready, at, later string }{
			{"10.0.0.1 10.0.0.2 10.0.0.3", "1 1", "1 1 1"},
			{"10.0.0.1 10.0.0.3", "1 1", "1 1"},
			{"10.0.0.4", "", ""}, // the only one has no slots
			{"10.0.0.2 10.0.0.3 10.0.0.4", "", "1 1 1"},
			{"10.0.0.1", "", ""},
		} {
			n.UpdateEndpointSlice(endpoints("a", "web", "8080", step.ready))
			time.Sleep(time.Millisecond)
			synctest.Wait()
			if got := n.slots(); got != step.at {
				t.Errorf("%s are ready: slots %s, want %s", step.ready, got, step.at)
			}
			time.Sleep(1998 * time.Millisecond)
			synctest.Wait()
			if got := n.slots(); got != step.at {
				t.Errorf("%s are ready, just before they have settled: slots %s, want %s", step.ready, got, step.at)
			}
			time.Sleep(2 * time.Millisecond)
			synctest.Wait()
			if got := n.slots(); got != step.later {
				t.Errorf("%s have settled: slots %s, want %s", step.ready, got, step.later)
			}
		}
	})
}
