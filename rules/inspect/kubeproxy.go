// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inspect

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// kubeProxyTable is the name of kube-proxy's own tables, in nftables mode.
const kubeProxyTable = "kube-proxy"

// iptablesTables are the tables of iptables-nft that kube-proxy uses in its other modes.
var iptablesTables = []string{"nat", "filter", "mangle"}

// kubeProxyChain matches the chains that kube-proxy makes in them (1.37,
// pkg/proxy/iptables and pkg/proxy/ipvs). The kubelet and network plugins have other
// names that begin with KUBE-.
var kubeProxyChain = regexp.MustCompile(`^KUBE-(SERVICES|NODEPORTS|POSTROUTING|MARK-MASQ|MARK-DROP|PROXY-CANARY|FORWARD|EXTERNAL-SERVICES|PROXY-FIREWALL|SOURCE-RANGES-FIREWALL|LOAD-BALANCER|NODE-PORT|IPVS-FILTER|IPVS-OUT-FILTER|(SVC|SVL|SEP|EXT|FW|XLB)-[A-Z0-9]{16})$`)

// KubeProxy is what kube-proxy left in nftables.
type KubeProxy struct {
	tables []familyTable
	chains map[familyTable][]string       // with their rules
	jumps  map[familyTable][]wire.RuleRef // rules of other chains that go to one of them
}

// familyTable is a table by its family and name.
type familyTable struct {
	family rules.Family
	name   string
}

func (t familyTable) String() string { return fmt.Sprintf("%s %s", t.family, t.name) }

// serviceChain matches those of kube-proxy's chains that forward to endpoints. The others are there
// before it has programmed a Service.
var serviceChain = regexp.MustCompile(`^KUBE-(SVC|SVL|SEP)-`)

// Serves says whether kube-proxy has programmed Services of a family in nftables: its own table, which
// comes with all of them in one transaction, or chains of iptables-nft.
func (p KubeProxy) Serves(f rules.Family) bool {
	return slices.Contains(p.tables, familyTable{f, kubeProxyTable}) ||
		slices.ContainsFunc(p.chains[familyTable{f, "nat"}], serviceChain.MatchString)
}

// Found describes what is there, a line each.
func (p KubeProxy) Found() []string {
	var out []string
	for _, t := range p.tables {
		out = append(out, fmt.Sprintf("kube-proxy's table %s is there", t))
	}
	for _, t := range p.order() {
		out = append(out, fmt.Sprintf("%d of kube-proxy's chains are in table %s", len(p.chains[t]), t))
	}
	return out
}

// Removed describes what was removed, a line each.
func (p KubeProxy) Removed() []string {
	var out []string
	for _, t := range p.tables {
		out = append(out, fmt.Sprintf("removed kube-proxy's table %s", t))
	}
	for _, t := range p.order() {
		out = append(out, fmt.Sprintf("removed %d of kube-proxy's chains, and %d rules that went to them, from table %s", len(p.chains[t]), len(p.jumps[t]), t))
	}
	return out
}

func (p KubeProxy) order() []familyTable {
	var out []familyTable
	for _, f := range rules.Families {
		for _, name := range iptablesTables {
			if t := (familyTable{f, name}); len(p.chains[t]) > 0 {
				out = append(out, t)
			}
		}
	}
	return out
}

// Removal writes the batch that removes what was found, in one transaction; an empty one if there was nothing.
func (p KubeProxy) Removal() *wire.Batch {
	b := &wire.Batch{}
	b.Begin(kubeProxyTable)
	for _, t := range p.tables {
		b.In(t.name)
		b.DeleteTable(t.family)
	}
	for _, t := range p.order() {
		b.In(t.name)
		b.DeleteChains(t.family, p.chains[t], p.jumps[t])
	}
	return b
}

// FindKubeProxy returns what kube-proxy left.
func (i *Inspector) FindKubeProxy() (p KubeProxy, err error) {
	err = nfnetlink.Again(func() error { p, err = i.findKubeProxy(); return err })
	return p, err
}

func (i *Inspector) findKubeProxy() (KubeProxy, error) {
	p := KubeProxy{chains: map[familyTable][]string{}, jumps: map[familyTable][]wire.RuleRef{}}
	for _, f := range rules.Families {
		err := i.ask(wire.GetTable(f, kubeProxyTable), func(nfnetlink.Data) {})
		switch {
		case err == nil:
			p.tables = append(p.tables, familyTable{f, kubeProxyTable})
		case !errors.Is(err, unix.ENOENT):
			return p, fmt.Errorf("look for table %s %s: %w", f, kubeProxyTable, err)
		}
		if err := i.findChains(f, &p); err != nil {
			return p, fmt.Errorf("look for kube-proxy's chains (%s): %w", f, err)
		}
	}
	return p, nil
}

func (i *Inspector) findChains(f rules.Family, p *KubeProxy) error {
	err := i.ask(wire.GetChains(wire.NFProto(f)), func(v nfnetlink.Data) {
		t, chain := familyTable{family: f}, ""
		for typ, v := range v.Attributes() {
			switch typ {
			case unix.NFTA_CHAIN_TABLE:
				t.name = v.Text()
			case unix.NFTA_CHAIN_NAME:
				chain = v.Text()
			}
		}
		if slices.Contains(iptablesTables, t.name) && kubeProxyChain.MatchString(chain) {
			p.chains[t] = append(p.chains[t], chain)
		}
	})
	if err != nil || len(p.chains) == 0 {
		return err
	}
	return i.ask(wire.GetRules(f, "", ""), func(v nfnetlink.Data) {
		t, r, to := familyTable{family: f}, wire.RuleRef{}, ""
		for typ, v := range v.Attributes() {
			switch typ {
			case unix.NFTA_RULE_TABLE:
				t.name = v.Text()
			case unix.NFTA_RULE_CHAIN:
				r.Chain = v.Text()
			case unix.NFTA_RULE_HANDLE:
				r.Handle = v.U64()
			case unix.NFTA_RULE_EXPRESSIONS:
				to = verdictChain(v)
			}
		}
		if len(p.chains[t]) > 0 && kubeProxyChain.MatchString(to) && !kubeProxyChain.MatchString(r.Chain) {
			p.jumps[t] = append(p.jumps[t], r)
		}
	})
}

// verdictChain returns the chain that a rule jumps or goes to.
func verdictChain(expressions nfnetlink.Data) string {
	path := []uint16{unix.NFTA_LIST_ELEM, unix.NFTA_EXPR_DATA, unix.NFTA_IMMEDIATE_DATA, unix.NFTA_DATA_VERDICT, unix.NFTA_VERDICT_CHAIN}
	chain := ""
	var walk func(v nfnetlink.Data, path []uint16)
	walk = func(v nfnetlink.Data, path []uint16) {
		if len(path) == 0 {
			chain = v.Text()
			return
		}
		immediate := true
		for typ, v := range v.Attributes() {
			if typ == unix.NFTA_EXPR_NAME && len(path) == 4 { // within an expression
				immediate = v.Text() == "immediate"
			}
			if typ == path[0] && immediate {
				walk(v, path[1:])
			}
		}
	}
	walk(expressions, path)
	return chain
}
