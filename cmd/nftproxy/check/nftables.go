// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"strings"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/feature"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/kubeproxy"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/trust"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/inspect"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// nftables checks what the kernel's nftables can, and what else is in it.
func (n *Node) nftables(r *Report) error {
	k, err := kernel.Open()
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	i, err := inspect.Open()
	if err != nil {
		return err
	}
	defer func() { _ = i.Close() }()
	n.features(r, k)
	n.ownership(r, k, i)
	n.competition(r, i)
	n.nodePorts(r, k)
	return nil
}

// features programs a service of each kind.
func (n *Node) features(r *Report, k *kernel.Kernel) {
	failed := false
	for f := range feature.Check(k) {
		failed = failed || f.Err != nil
		r.result("nftables: "+f.Name, f.Err, f.Uses, "the kernel lacks what it uses: "+f.Uses)
	}
	if failed {
		r.warning("nftables: what is lacking", "the kernel needs the modules nf_tables, nft_chain_nat, nft_ct, nft_fib, nft_hash, nft_masq, nft_nat, nft_numgen, nft_reject; 5.13 or newer has all that is used")
	}
}

// competition looks for who else handles Services or translates addresses first.
func (n *Node) competition(r *Report, i *inspect.Inspector) {
	found, err := kubeproxy.Competition(i, n.Root, kubeproxy.Find(n.Root))
	if err != nil {
		r.fail("kube-proxy", printable.Error(err))
	}
	for _, what := range found {
		r.warning("kube-proxy", what)
	}
	if err == nil && len(found) == 0 {
		r.ok("kube-proxy", "none, and nothing left of one")
	}
	pid, notes := trust.Processes{Root: n.Root}.First("firewalld", nil)
	for _, note := range notes {
		r.warning("firewalld", note)
	}
	if pid != "" {
		r.warning("firewalld", "is running as process "+pid+": it may drop forwarded connections; let it accept those to and from pods")
	}
	chains, err := i.BaseChains()
	if err != nil {
		r.fail("other nat chains", printable.Error(err))
		return
	}
	var others []string
	for _, c := range chains {
		if c.Type == "nat" && c.Priority == -100 && c.Table != n.Table {
			others = append(others, fmt.Sprintf("%s %s %s", c.Family, printable.Word(c.Table), printable.Word(c.Name)))
		}
	}
	if len(others) > 0 {
		r.warning("other nat chains", strings.Join(others, ", ")+": at our hook and priority; what they translate first, no Service sees")
	} else {
		r.ok("other nat chains", "none at our hooks and priority")
	}
	n.dropping(r, i, chains)
}

// hookForward is NF_INET_FORWARD.
const hookForward rules.HookNumber = 2

// dropping names other programs' chains that drop what none of their rules accepts: connections to endpoints among it.
func (n *Node) dropping(r *Report, i *inspect.Inspector, chains []inspect.BaseChain) {
	const what = "other filter chains"
	fine, passing := true, 0
	for _, at := range []struct {
		hook rules.HookNumber
		lost string
	}{
		{hookForward, "connections to endpoints in pods"},
		{rules.HookInput, "connections to endpoints in this node's own network, and health checks"},
	} {
		var names []string
		for _, c := range chains {
			if c.Drops && c.Hook == at.hook && c.Table != n.Table {
				if accepts, err := i.AcceptsRewritten(&c); accepts && err == nil { // what is not known is warned of
					passing++
					continue
				}
				names = append(names, fmt.Sprintf("%s %s %s", c.Family, printable.Word(c.Table), printable.Word(c.Name)))
			}
		}
		if len(names) == 0 {
			continue
		}
		fine = false
		r.warning(what, fmt.Sprintf("%s: policy drop, also for %s, unless a rule accepts them, such as 'nft insert rule %s ct status dnat accept'",
			strings.Join(names, ", "), at.lost, names[0]))
	}
	switch {
	case fine && passing > 0:
		r.ok(what, "those that drop by their policy have a rule that accepts connections to endpoints")
	case fine:
		r.ok(what, "none that drops by its policy what is forwarded or comes in")
	}
}
