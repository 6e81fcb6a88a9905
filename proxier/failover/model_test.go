// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// model is a world of endpoints that answer or do not, and what must hold of any decision about them, told without the
// Machine's means.
type model struct {
	t       *testing.T
	rand    *rand.Rand
	config  Config
	machine *Machine
	now     time.Time

	usable   map[rules.Owner][]netip.AddrPort
	failures map[Endpoint]map[netip.AddrPort]time.Time // all that were ever told
	answers  map[rules.Backend]time.Time
	out      map[Endpoint]Change    // those that are away, and the last thing that became of each
	entered  map[Endpoint]time.Time // when that was
	trouble  time.Time              // the last time that there was
}

func address(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(n >> 8), byte(n)}), 8080)
}

func owner(n int) rules.Owner {
	return rules.Owner{ServicePortName: rules.ServicePortName{Namespace: "default", Name: fmt.Sprintf("web-%d", n)}}
}

func at(a netip.AddrPort) rules.Backend { return rules.Backend{Protocol: rules.TCP, Addr: a} }

// step does something that may happen, and decides.
func (m *model) step() {
	m.now = m.now.Add(time.Duration(m.rand.IntN(1500)*m.rand.IntN(2)) * time.Millisecond)
	if m.rand.IntN(40) == 0 { // a long silence
		m.now = m.now.Add(time.Duration(m.rand.IntN(400)) * time.Second)
	}
	for _, n := range m.rand.Perm(len(m.usable)) {
		o := owner(n)
		list := m.usable[o]
		switch m.rand.IntN(60) {
		case 0:
			m.usable[o] = list[:m.rand.IntN(len(list)+1)]
		case 1:
			m.usable[o] = append(slices.Clip(list), address(m.rand.IntN(40)))
			slices.SortFunc(m.usable[o], netip.AddrPort.Compare)
			m.usable[o] = slices.Compact(m.usable[o])
		}
		for _, a := range m.usable[o] {
			e := Endpoint{o, at(a)}
			dead := a.Addr().As4()[3]%3 == byte(m.now.Unix()/97%4)
			client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 0, 1}), uint16(m.rand.IntN(2000)))
			switch n := m.rand.IntN(4); {
			case n == 0 && dead:
				m.machine.Unanswered(e, client, m.now)
				if m.failures[e] == nil {
					m.failures[e] = map[netip.AddrPort]time.Time{}
				}
				m.failures[e][client] = m.now
			case n == 1 && (!dead || m.rand.IntN(30) == 0):
				m.machine.Answered(e.At, m.now)
				m.answers[e.At] = m.now
			}
		}
	}
	m.now = m.now.Add(time.Millisecond)
	m.check(m.machine.Decide(m.now, func(o rules.Owner) []netip.AddrPort { return m.usable[o] }))
}

// check checks what was decided.
func (m *model) check(changes []Change) {
	if m.machine.Counts().Trouble {
		m.trouble = m.now
	}
	for _, c := range changes {
		was, away := m.out[c.Endpoint]
		since := m.now.Sub(m.entered[c.Endpoint])
		switch c.Kind {
		case Ejected:
			if away || m.silent(c.Endpoint) < m.config.Threshold || c.For != m.config.First {
				m.t.Fatalf("%v: ejected for %v, away: %t, after %d connections", c.Endpoint, c.For, away, m.silent(c.Endpoint))
			}
		case Tried:
			if !away || was.Kind == Tried || since < was.For {
				m.t.Fatalf("%v: tried after %v, as %+v", c.Endpoint, since, was)
			}
		case Failed:
			if !away || was.Kind != Tried || c.For != min(2*was.For, m.config.Longest) {
				m.t.Fatalf("%v: %+v after %+v", c.Endpoint, c, was)
			}
		case Back, Freed:
			if !away {
				m.t.Fatalf("%v: back, and was not away", c.Endpoint)
			}
			delete(m.out, c.Endpoint)
			delete(m.failures, c.Endpoint)
			continue
		}
		if m.machine.Counts().Trouble && c.Kind == Ejected {
			m.t.Fatalf("%v: ejected in trouble", c.Endpoint)
		}
		m.out[c.Endpoint], m.entered[c.Endpoint] = c, m.now
	}
	if c := m.machine.Counts(); c.Out != len(m.out) || c.Trouble && c.Out > 0 {
		m.t.Fatalf("%d are away, %d are counted, trouble: %t", len(m.out), c.Out, c.Trouble)
	}
	m.shares()
	for e, c := range m.out {
		longest := c.For
		if c.Kind == Tried {
			longest = m.config.Trial
		}
		switch {
		case m.answers[e.At].After(m.entered[e]):
			m.t.Fatalf("%v: answered, and is not back", e)
		case m.now.Sub(m.entered[e]) >= longest:
			m.t.Fatalf("%v %v: kind %d, for %v, since %v: %+v", e, e.At.Addr, c.Kind, c.For, m.now.Sub(m.entered[e]), m.machine.endpoints[e])
		}
	}
}

// silent returns how many connections of late were not answered, nor any since they began.
func (m *model) silent(e Endpoint) (n int) {
	for _, at := range m.failures[e] {
		if m.now.Sub(at) <= m.config.Window && at.Add(-waited).After(m.answers[e.At]) {
			n++
		}
	}
	return n
}

// shares checks that no service port does without more endpoints than it may, and that Of and the rules agree.
func (m *model) shares() {
	for o, list := range m.usable {
		var away []netip.AddrPort
		for e := range m.out {
			if e.Owner == o {
				away = append(away, e.At.Addr)
			}
		}
		of := m.machine.Of(o)
		if len(of) != len(away) || len(away) > 0 && (len(away) >= len(list) || 100*len(away) > m.config.Share*len(list)) {
			m.t.Fatalf("%s: %d of %d endpoints are away: %v, Of says %v", o, len(away), len(list), away, of)
		}
		var endpoints []rules.Endpoint
		for _, a := range list {
			endpoints = append(endpoints, rules.Endpoint{Addr: a, Ready: true, Serving: true})
		}
		sp := rules.ServicePort{Name: o.ServicePortName, Port: 80, Ejection: rules.Ejection{Endpoints: of, Share: m.config.Share}}
		u := rules.SelectEndpoints(&sp, endpoints, &rules.Node{})
		if len(u.Cluster) != len(list)-len(away) || len(u.ClusterEjected) != len(away) {
			m.t.Fatalf("%s: the rules use %d of %d endpoints, %d are away", o, len(u.Cluster), len(list), len(away))
		}
	}
}

// TestLoss: an endpoint that answers some of its clients twice a second is not ejected, however many of their packets are lost
// between two answers.
func TestLoss(t *testing.T) {
	m, now, e := New(Config{}), time.Unix(1e9, 0), Endpoint{owner(0), at(address(1))}
	usable := func(rules.Owner) []netip.AddrPort { return []netip.AddrPort{address(1), address(2)} }
	fail := func(n int) []Change {
		for client := range n {
			now = now.Add(time.Millisecond)
			m.Unanswered(e, netip.AddrPortFrom(netip.MustParseAddr("10.9.0.1"), uint16(client+1)), now)
		}
		return m.Decide(now, usable)
	}
	for range 20 {
		m.Answered(e.At, now)
		m.Answered(at(address(2)), now)
		now = now.Add(500 * time.Millisecond)
		if c := fail(5); len(c) > 0 {
			t.Fatalf("%+v", c)
		}
	}
	now = now.Add(time.Second)
	m.Answered(at(address(2)), now)
	if c := fail(3); len(c) != 1 || c[0].Kind != Ejected {
		t.Errorf("an endpoint that answers nobody any more: %+v", c)
	}
}

// TestModel: whatever endpoints do, no more than the share of a service port is ever ejected, never the last endpoint, none
// that answers, and none for ever.
func TestModel(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			c := Config{Share: []int{1, 34, 50, 67, 100}[r.IntN(5)], Threshold: 1 + r.IntN(4)}.WithDefaults()
			m := &model{t: t, rand: r, config: c, machine: New(c), now: time.Unix(1e9, 0), usable: map[rules.Owner][]netip.AddrPort{},
				failures: map[Endpoint]map[netip.AddrPort]time.Time{}, answers: map[rules.Backend]time.Time{}, out: map[Endpoint]Change{}, entered: map[Endpoint]time.Time{}}
			for o := range 1 + r.IntN(5) {
				m.usable[owner(o)] = nil
				for range r.IntN(8) {
					m.usable[owner(o)] = append(m.usable[owner(o)], address(r.IntN(40)))
				}
				slices.SortFunc(m.usable[owner(o)], netip.AddrPort.Compare)
				m.usable[owner(o)] = slices.Compact(m.usable[owner(o)])
			}
			for range 400 {
				m.step()
			}
			// Nobody connects any more: it ends.
			for range 3 {
				m.now = m.now.Add(c.Longest + c.Trial)
				m.check(m.machine.Decide(m.now, func(o rules.Owner) []netip.AddrPort { return m.usable[o] }))
			}
			if !m.machine.Idle() || len(m.out) > 0 {
				t.Fatalf("it does not end: %v", m.out)
			}
		})
	}
}

// TestQuiet: an endpoint stays ejected while nobody connects to anything: that others do not answer, either, is no trouble then. Those
// of a node's own trouble are back.
func TestQuiet(t *testing.T) {
	o := rules.Owner{ServicePortName: rules.ServicePortName{Namespace: "default", Name: "web"}}
	list := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:80"), netip.MustParseAddrPort("10.0.0.3:80")}
	now := time.Unix(1000, 0)
	m := New(Config{First: 5 * time.Minute})
	decide := func() { m.Decide(now, func(rules.Owner) []netip.AddrPort { return list }) }
	silent := func(i int) {
		for port := range uint16(3) {
			m.Unanswered(Endpoint{o, at(list[i])}, netip.AddrPortFrom(netip.MustParseAddr("10.9.0.1"), 1000+port), now)
		}
	}
	m.Answered(at(list[1]), now)
	m.Answered(at(list[2]), now)
	silent(0)
	decide()
	for range 120 {
		now = now.Add(time.Second)
		decide()
		if c := m.Counts(); c.Out != 1 || c.Trouble {
			t.Fatalf("%v after it was ejected: %+v", now.Sub(time.Unix(1000, 0)), c)
		}
	}
	silent(1)
	if decide(); m.Counts().Trouble {
		t.Error("one endpoint that does not answer is trouble")
	}
	silent(2)
	decide()
	decide()
	if c := m.Counts(); c.Out != 0 || !c.Trouble {
		t.Errorf("where nobody answers: %+v", c)
	}
}
