// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"net/netip"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/story"
	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/proxier/nodeaddr"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/inspect"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// traced is tracing of this node's kernel, and what tells more of what was traced.
type traced struct {
	flows  *conntrack.Conn
	look   *inspect.Inspector
	trace  *inspect.Trace
	silent []netip.AddrPort
	read   time.Time // when silent was
	nat    nat
}

// nat is what other programs have that rewrites destinations: their base chains.
type nat struct {
	chains map[story.Step]bool
	read   time.Time
}

// others returns those that there were at most a second ago.
func (n *nat) others(look *inspect.Inspector, table string) map[story.Step]bool {
	if time.Since(n.read) < reread {
		return n.chains
	}
	n.chains, n.read = map[story.Step]bool{}, time.Now()
	list, _ := look.BaseChains() // without them nothing is said of who it was
	for _, c := range list {
		if c.Type == "nat" && (c.Hook == rules.HookPrerouting || c.Hook == rules.HookOutput) && c.Table != table {
			n.chains[story.Step{Family: c.Family, Table: c.Table, Chain: c.Name}] = true
		}
	}
	return n.chains
}

// openTraced begins to trace.
func openTraced(filter wire.TraceFilter) (*traced, error) {
	t := &traced{}
	var err error
	if t.flows, err = conntrack.Open(); err != nil {
		return nil, err
	}
	if t.look, err = inspect.Open(); err == nil {
		t.trace, err = inspect.StartTrace(filter)
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *traced) close() {
	_ = t.flows.Close()
	if t.look != nil {
		_ = t.look.Close()
	}
	if t.trace != nil {
		_ = t.trace.Close()
	}
}

// follow calls fn for each story until ctx ends.
func (t *traced) follow(ctx context.Context, fn func(*story.Story)) error {
	f := story.NewFollower(t.ask)
	add := func(e wire.TraceEvent) { f.Add(e, time.Now()) }
	if err := t.trace.Next(ctx, add, func() { f.Tell(time.Now(), false, fn) }, f.Lose); err != nil {
		return err
	}
	f.Tell(time.Now(), true, fn)
	return nil
}

// ask asks connection tracking.
func (t *traced) ask(sent story.Flow) story.Tracked {
	flow, ok, err := t.flows.Get(context.Background(), sent.Protocol, conntrack.Tuple{Src: sent.Src, Dst: sent.Dst})
	if err != nil || !ok {
		return story.Tracked{}
	}
	return story.Tracked{Known: true, Answered: flow.Status&conntrack.StatusSeenReply != 0,
		Reply: story.Flow{Protocol: sent.Protocol, Src: flow.Reply.Src, Dst: flow.Reply.Dst}}
}

// teller returns what tells stories of connections that meet the tables of a name.
func (t *traced) teller(table string, nameAt func(rules.Frontend) (rules.ServicePortName, bool)) *teller {
	return &teller{
		table:  table,
		nameAt: nameAt,
		silent: func() []netip.AddrPort {
			if time.Since(t.read) > time.Second {
				t.silent, _ = silentEndpoints(table) // without them nothing is said of failover
				t.read = time.Now()
			}
			return t.silent
		},
		rejects: func(p story.Place) bool {
			yes, err := t.look.Rejects(p.Family, p.Table, p.Chain, p.Rule)
			return err == nil && yes
		},
		routable: nodeaddr.RouteTo,
		rewrites: func(s story.Step) bool { return t.nat.others(t.look, table)[s] },
	}
}

// hasTables says whether this node has tables of a name.
func hasTables(table string) error {
	i, err := inspect.Open()
	if err != nil {
		return err
	}
	defer func() { _ = i.Close() }()
	have, err := i.Presence(table)
	if err == nil && !have[rules.IPv4].Table && !have[rules.IPv6].Table {
		err = noTable(table)
	}
	return err
}
