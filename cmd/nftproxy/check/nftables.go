// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"strings"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/feature"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/kubeproxy"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/trust"
	"github.com/nftproxy/nftproxy/printable"
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
	n.competition(r, i)
	return nil
}

// features programs a service of each kind.
func (n *Node) features(r *Report, k *kernel.Kernel) {
	const advice = "the kernel needs the modules nf_tables, nft_chain_nat, nft_ct, nft_fib, nft_hash, nft_masq, nft_nat, nft_numgen, nft_reject; 5.13 or newer has all that is used"
	for f := range feature.Check(k) {
		r.result("nftables: "+f.Name, f.Err, f.Uses, advice)
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
		return
	}
	r.ok("other nat chains", "none at our hooks and priority")
}
