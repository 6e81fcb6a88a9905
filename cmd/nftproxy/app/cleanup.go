// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/kubeproxy"
	"github.com/nftproxy/nftproxy/lock"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/inspect"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

func cleanupCommand() *cobra.Command {
	c := cleanup{root: "/"}
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove nftproxy's tables from this node",
		Long: `Remove nftproxy's tables from this node. Where nftproxy runs, or where kube-proxy
runs but has no rules yet that would take over, this is refused, with exit code 1; after an
error it is 2.
The kernel itself refuses it while the tables belong to a process (--own-tables of
'nftproxy run'); they stay when that has ended, and can be removed then.

With --kube-proxy remove what kube-proxy left, too: its nftables tables, its chains in
the tables of iptables-nft, and of its IPVS mode the link kube-ipvs0, the ipsets and the
virtual servers at addresses of that link or at NodePorts of these ipsets. Other virtual
servers stay, since keepalived and others use IPVS, too. What kube-proxy left elsewhere,
this command names. The tables of an nftproxy that is running stay then, so that a node
that has changed over from kube-proxy can be cleared without an interruption. It is
refused where kube-proxy runs, or where the nftproxy that runs has no tables yet.`,
		Example: `  nftproxy cleanup
  nftproxy cleanup --kube-proxy`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.OutOrStdout()) },
	}
	cmd.Flags().StringVar(&c.proxyName, "service-proxy-name", "", "`name` that 'nftproxy run' was given")
	cmd.Flags().BoolVar(&c.kubeProxy, "kube-proxy", false, "remove what kube-proxy left, too")
	return cmd
}

// cleanup removes rules from this node.
type cleanup struct {
	root      string // of /proc
	proxyName string // whose tables are ours
	kubeProxy bool   // what kube-proxy left goes, too
}

// run removes everything, or, after an error of mayRemove, nothing.
func (c *cleanup) run(w io.Writer) error {
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
	table := tableName(c.proxyName)
	who, notes, err := c.running(table)
	if err != nil {
		return err
	}
	other := kubeproxy.Find(c.root)
	for _, note := range slices.Concat(notes, other.Notes) {
		fmt.Fprintln(w, note)
	}
	if err := c.mayRemove(i, table, who, other.Process); err != nil {
		return err
	}
	if who != "" {
		fmt.Fprintf(w, "nftproxy is running as %s: its tables stay\n", who)
	} else if err := remove(w, k, table); err != nil {
		return err
	}
	if c.kubeProxy {
		return kubeproxy.Remove(w, k, i, c.root)
	}
	return nil
}

// running names the nftproxy that runs: the one that writes the tables, in whatever container, or a process that is seen here;
// "" if none does.
func (c *cleanup) running(table string) (who string, notes []string, err error) {
	pid, notes := runningOf(c.root, c.proxyName)
	s, err := lock.Look(table)
	switch {
	case err != nil:
		return "", notes, err
	case s.Holder != nil:
		return s.Holder.String(), notes, nil
	case pid != "":
		return "process " + pid, notes, nil
	}
	return "", notes, nil
}

// refused says that nothing is removed, for a good reason.
func refused(why error) error { return &exitError{exitNo, why} }

// remove removes our tables. Meanwhile no nftproxy that starts may write them.
func remove(w io.Writer, k *kernel.Kernel, table string) error {
	l, err := lock.New(lock.Config{Table: table, Version: "cleanup"})
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	if err = l.Start(); err != nil {
		return err
	}
	if !l.Holds() {
		return refused(errors.New("nftproxy has just started and writes its tables: stop it first; nothing is removed"))
	}
	n, err := k.Remove(table)
	if errors.As(err, new(*kernel.HeldError)) { // by a version without the lock
		return refused(fmt.Errorf("%w; nothing is removed", err))
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "removed %d of the tables ip %[2]s and ip6 %[2]s\n", n, table)
	return nil
}

// mayRemove says what is against it: what is removed would come back, or the node would have no Services.
// who is the nftproxy that runs, if one does, and other the kube-proxy.
func (c *cleanup) mayRemove(i *inspect.Inspector, table, who, other string) error {
	switch {
	case c.kubeProxy && other != "":
		return refused(fmt.Errorf("kube-proxy is running as process %s and would write its rules again: stop it first; nothing is removed", other))
	case c.kubeProxy && who != "":
		return mustHold(i, table, who)
	case who != "":
		return refused(fmt.Errorf("nftproxy is running as %s and would write its tables again: stop it first; nothing is removed", who))
	case other != "":
		return c.mustServe(i, table, other)
	}
	return nil
}

// mustHold fails if the tables of the nftproxy that runs are not all there.
func mustHold(i *inspect.Inspector, table, who string) error {
	ours, err := i.Presence(table)
	if err != nil {
		return err
	}
	for f, p := range ours {
		if !p.Table {
			return refused(fmt.Errorf("nftproxy is running as %s, but there is no table %s %s yet: without kube-proxy's rules this node would have no Services: wait until nftproxy is ready; nothing is removed",
				who, rules.Family(f), table))
		}
	}
	return nil
}

// mustServe fails if the kube-proxy that runs has nothing where our tables lead to endpoints. Legacy iptables and IPVS,
// which netlink's nftables does not show, get the benefit of the doubt.
func (c *cleanup) mustServe(i *inspect.Inspector, table, pid string) error {
	ours, err := i.Presence(table)
	if err != nil {
		return err
	}
	theirs, err := i.FindKubeProxy()
	if err != nil {
		return err
	}
	for f, p := range ours {
		if p.Forwards && !theirs.Serves(rules.Family(f)) && !kubeproxy.ServesElsewhere(c.root) {
			return refused(fmt.Errorf("kube-proxy is running as process %s, but has no rules for Services yet that could replace table %s %s: without it this node would have none: wait until kube-proxy has written them; nothing is removed",
				pid, rules.Family(f), table))
		}
	}
	return nil
}
