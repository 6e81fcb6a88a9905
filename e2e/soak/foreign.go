// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/rules"
)

// foreigner is another program on the node, which changes its nftables.
type foreigner struct {
	conn    *nftables.Conn
	victims []*service
	turn    int
}

// foreignCounts is what became of another program's changes.
type foreignCounts struct{ tried, refused, went, own atomic.Int64 }

// foreignChange is a kind of change. A destructive one may break any Service, others those of the victims alone.
type foreignChange struct {
	name        string
	destructive bool
	own         bool // in a table of its own
	do          func() error
}

func newForeigner(s *site) (*foreigner, error) {
	f := &foreigner{}
	for _, svc := range s.services {
		if svc.role == victim {
			f.victims = append(f.victims, svc)
		}
	}
	var err error
	if f.conn, err = nftables.New(nftables.WithNetNSFd(s.Node.Fd())); err != nil {
		return nil, fmt.Errorf("open the node's nftables: %w", err)
	}
	return f, nil
}

// interfere makes another program's changes at an even pace until going ends.
func (r *run) interfere(_, going context.Context) error {
	f, err := newForeigner(r.site)
	if err != nil {
		return err
	}
	tick := time.NewTicker(r.plan.Foreign)
	defer tick.Stop()
	for {
		select {
		case <-going.Done():
			return nil
		case <-tick.C:
		}
		if err := r.interfereOnce(f); err != nil {
			return err
		}
	}
}

// interfereOnce makes the next kind of change that the tables of now let it make without harm to others.
func (r *run) interfereOnce(f *foreigner) error {
	owned, err := f.owned()
	if err != nil {
		return err
	}
	all := f.changes()
	c := all[f.turn%len(all)]
	for f.turn++; c.destructive && !owned; f.turn++ {
		c = all[f.turn%len(all)]
	}
	r.foreign.tried.Add(1)
	ended := r.diary.did("", "another program: %s", c.name)
	err = c.do()
	ended(err)
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EBUSY):
		r.foreign.refused.Add(1)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EEXIST):
		r.foreign.went.Add(1) // it is not repaired yet
	case err != nil:
		return fmt.Errorf("another program: %s: %w", c.name, err)
	case c.own:
		r.foreign.own.Add(1)
	default:
		r.foreign.went.Add(1)
	}
	return nil
}

// ownerFlag is NFT_TABLE_F_OWNER.
const ownerFlag = 2

// owned says whether nobody but nftproxy can change its tables.
func (f *foreigner) owned() (bool, error) {
	tables, err := f.conn.ListTables()
	if err != nil {
		return false, fmt.Errorf("list the node's tables: %w", err)
	}
	n := 0
	for _, t := range tables {
		if t.Name == rules.DefaultTable && t.Flags&ownerFlag != 0 {
			n++
		}
	}
	return n == 2, nil
}

// changes lists all kinds.
func (f *foreigner) changes() []foreignChange {
	v := f.victims[f.turn%len(f.victims)]
	single := len(v.crowds[netns.IPv4].now.ready) == 1
	return []foreignChange{
		{"the frontend of " + v.name + " is deleted", false, false, f.both(func(t *nftables.Table, at netns.Family) error {
			set := &nftables.Set{Table: t, Name: "service-ips"}
			if single {
				set.Name = "single"
			}
			return f.conn.SetDeleteElements(set, []nftables.SetElement{{Key: frontend(v, at)}})
		})},
		{"an address is added to the ClusterIPs", false, false, f.both(func(t *nftables.Table, at netns.Family) error {
			return f.conn.SetAddElements(&nftables.Set{Table: t, Name: "cluster-ips"}, []nftables.SetElement{{Key: netns.ServiceAddr(at, 65000).AsSlice()}})
		})},
		{"a chain is added", false, false, f.both(func(t *nftables.Table, _ netns.Family) error {
			f.conn.AddChain(&nftables.Chain{Table: t, Name: "foreign"})
			return nil
		})},
		{"the own table is made, with a rule", false, true, f.ownTable},
		{"the rules of the chain of a victim are deleted", false, false, f.both(func(t *nftables.Table, _ netns.Family) error {
			f.conn.FlushChain(&nftables.Chain{Table: t, Name: "service/" + namespace + "/" + f.victims[1].name + "/tcp"})
			return nil
		})},
		{"a set is added", false, false, f.both(func(t *nftables.Table, _ netns.Family) error {
			return f.conn.AddSet(&nftables.Set{Table: t, Name: "foreign", KeyType: nftables.TypeInetService}, nil)
		})},
		{"the whole ruleset is flushed", true, true, func() error {
			f.conn.FlushRuleset()
			return f.conn.Flush()
		}},
		{"the tables are deleted", true, false, f.both(func(t *nftables.Table, _ netns.Family) error {
			f.conn.DelTable(t)
			return nil
		})},
		{"the rules of all Services' chain are deleted", true, false, f.both(func(t *nftables.Table, _ netns.Family) error {
			f.conn.FlushChain(&nftables.Chain{Table: t, Name: "services"})
			return nil
		})},
		{"the ClusterIPs are flushed", true, false, f.both(func(t *nftables.Table, _ netns.Family) error {
			f.conn.FlushSet(&nftables.Set{Table: t, Name: "cluster-ips"})
			return nil
		})},
		{"a rule that drops everything is added", true, false, f.both(func(t *nftables.Table, _ netns.Family) error {
			f.conn.InsertRule(&nftables.Rule{Table: t, Chain: &nftables.Chain{Table: t, Name: "services"},
				Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}})
			return nil
		})},
	}
}

// both does something to both of nftproxy's tables, in one transaction.
func (f *foreigner) both(do func(*nftables.Table, netns.Family) error) func() error {
	return func() error {
		for family, at := range map[nftables.TableFamily]netns.Family{nftables.TableFamilyIPv4: netns.IPv4, nftables.TableFamilyIPv6: netns.IPv6} {
			if err := do(&nftables.Table{Name: rules.DefaultTable, Family: family}, at); err != nil {
				return err
			}
		}
		return f.conn.Flush()
	}
}

// ownTable makes the other program's own table anew, with a chain on the way of all packets.
func (f *foreigner) ownTable() error {
	t := f.conn.AddTable(&nftables.Table{Name: foreignTable, Family: nftables.TableFamilyINet})
	f.conn.DelTable(t)
	f.conn.AddTable(t)
	c := f.conn.AddChain(&nftables.Chain{Table: t, Name: "forward", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter})
	f.conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: []expr.Any{&expr.Counter{}}})
	return f.conn.Flush()
}

// foreignTable is the name of the other program's own table.
const foreignTable = "firewall"

// frontend is the key of a victim in nftproxy's maps: address, protocol and port, each filled up to four bytes.
func frontend(v *service, at netns.Family) []byte {
	a := v.at(at)
	return append(a.Addr().AsSlice(), unix.IPPROTO_TCP, 0, 0, 0, byte(a.Port()>>8), byte(a.Port()), 0, 0)
}
