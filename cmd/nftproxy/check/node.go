// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/sandbox"
	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier/apiclient"
)

// Node is what is checked.
type Node struct {
	// Root is where the machine's files begin: /.
	Root string
	// Table is the name of our tables, ProxyName the --service-proxy-name that it belongs to.
	Table, ProxyName string
	// Settings are those of connection tracking that should be in force.
	Settings conntrack.Settings
	// Addresses are those at which nftproxy serves health checks and metrics.
	Addresses []string
	// Manifests is the directory of the source; without it, Client reaches the API server.
	Manifests string
	Client    func() (*apiclient.Client, error)
	// Running names the process of the nftproxy that runs here, if one does, and notes what could not be seen.
	Running func() (pid string, notes []string)
}

// Check checks all, and writes it into the report.
func (n *Node) Check(ctx context.Context, r *Report) {
	r.ok("kernel", n.file("proc/sys/kernel/osrelease"))
	if err := n.nftables(r); err != nil {
		r.fail("nftables", printable.Error(err)+": run this as root, or with CAP_NET_ADMIN")
	}
	n.turns(r)
	n.confinement(r)
	n.tracking(ctx, r)
	n.forwarding(r)
	n.routing(r)
	n.ports(r)
	n.source(ctx, r)
}

func (n *Node) file(name string) string {
	text, err := os.ReadFile(filepath.Join(n.Root, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// confinement shows the rights of the nftproxy that runs here.
func (n *Node) confinement(r *Report) {
	const what = "confinement"
	pid, notes := n.Running()
	for _, note := range notes {
		r.warning(what, note)
	}
	abi, missing := sandbox.ABI()
	landlock := fmt.Sprintf("this kernel has Landlock, version %d", abi)
	if missing != nil {
		landlock = "of Landlock: " + missing.Error()
	}
	if pid == "" {
		r.ok(what, "nftproxy does not run; "+landlock)
		return
	}
	state, err := sandbox.Of(filepath.Join(n.Root, "proc"), pid)
	text := fmt.Sprintf("of nftproxy, process %s: %s", pid, state)
	switch {
	case err != nil:
		r.warning(what, err.Error())
	case state.Confined():
		r.ok(what, text)
	case state.LimitedCapabilities() && missing != nil:
		r.ok(what, text+"; "+landlock)
	default:
		r.warning(what, text+"; the line Confinement in its log says why it has more than it needs")
	}
}
