// SPDX-License-Identifier: Apache-2.0

package kubeproxy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ipvs"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/rules/inspect"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// Remove removes what kube-proxy left in nftables and of its IPVS mode, and names what it left
// where netlink does not reach. root is that of /proc and /sys. What fails holds up nothing else.
// A line about each goes to w.
func Remove(w io.Writer, k *kernel.Kernel, i *inspect.Inspector, root string) error {
	left, leftErr := ipvs.Find(root)
	lines, serversErr := left.RemoveServers()
	ended, flowsErr := endForwarded(left)
	lines = append(lines, ended...)
	gone, rulesErr := removeRules(k, i)
	if rulesErr == nil {
		lines = append(gone.Removed(), lines...)
	}
	sets, setsErr := left.RemoveSets() // after the rules that match them
	lines = append(lines, sets...)
	err := errors.Join(leftErr, serversErr, flowsErr, rulesErr, setsErr)
	if len(lines) == 0 && err == nil {
		lines = []string{"kube-proxy has left nothing in nftables and IPVS"}
	}
	for _, line := range append(lines, elsewhere(root, left)...) {
		if _, writeErr := fmt.Fprintln(w, printable.Line(line)); writeErr != nil {
			return writeErr
		}
	}
	return err
}

// removeRules removes what kube-proxy left in nftables, in one transaction, and returns what that was.
func removeRules(k *kernel.Kernel, i *inspect.Inspector) (inspect.KubeProxy, error) {
	found, err := i.FindKubeProxy()
	if err != nil {
		return found, err
	}
	if err := k.Commit(found.Removal()); err != nil {
		return found, fmt.Errorf("remove what kube-proxy left: %w", err)
	}
	return found, nil
}

// Competition says what of kube-proxy's would compete with nftproxy, a line each. root is that of /proc and
// /sys. Beside an error are those that were found all the same.
func Competition(i *inspect.Inspector, root string, running Running) ([]string, error) {
	out := slices.Clone(running.Notes)
	if pid := running.Process; pid != "" {
		out = append(out, "kube-proxy is running as process "+pid+": two proxies compete for Services; stop one of them")
	} else if mode := modeAt(Status); mode != "" {
		out = append(out, "kube-proxy answers at "+Status+", in mode "+mode+": two proxies compete for Services; stop one of them")
	}
	found, err := i.FindKubeProxy()
	for _, what := range found.Found() {
		out = append(out, what+": these rules compete with ours; remove them with 'nftproxy cleanup --kube-proxy'")
	}
	left, leftErr := ipvs.Find(root)
	for _, what := range left.Found() {
		out = append(out, what+": remove it with 'nftproxy cleanup --kube-proxy'")
	}
	if n := countForwarded(left); n > 0 {
		out = append(out, fmt.Sprintf("%d open connections go through IPVS: they end when its virtual servers are removed", n))
	}
	return append(out, elsewhere(root, left)...), errors.Join(err, leftErr)
}

// ServesElsewhere says whether there is what kube-proxy would have programmed with legacy iptables or in IPVS.
func ServesElsewhere(root string) bool {
	for _, name := range []string{"ip_tables_names", "ip6_tables_names"} {
		tables, _ := os.ReadFile(filepath.Join(root, "proc/net", name))
		if slices.Contains(strings.Fields(string(tables)), "nat") {
			return true
		}
	}
	return hasVirtualServices(root)
}

// hasVirtualServices says whether IPVS has any.
func hasVirtualServices(root string) bool {
	services, err := os.ReadFile(filepath.Join(root, "proc/net/ip_vs"))
	return err == nil && strings.Count(string(services), "\n") > 3 // more than its head
}

// elsewhere names leftovers that are neither in nftables nor of kube-proxy's IPVS mode as far as that is known, and
// the commands that remove them.
func elsewhere(root string, known ipvs.Left) []string {
	var out []string
	for _, name := range []string{"ip_tables_names", "ip6_tables_names"} {
		tables, err := os.ReadFile(filepath.Join(root, "proc/net", name))
		if err == nil && len(strings.TrimSpace(string(tables))) > 0 {
			out = append(out, fmt.Sprintf("legacy iptables has tables (/proc/net/%s): if kube-proxy used them, remove its chains with 'kube-proxy --cleanup'", name))
		} else if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
			out = append(out, fmt.Sprintf("cannot tell about legacy iptables: %v", err))
		}
	}
	switch other := known.Foreign(); {
	case other != "":
		out = append(out, other)
	case len(known.Servers) == 0 && hasVirtualServices(root): // which could not be listed
		out = append(out, "IPVS has virtual services (/proc/net/ip_vs): if kube-proxy made them, remove them with 'kube-proxy --cleanup' or 'ipvsadm --clear'")
	}
	return out
}
