// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ipvs"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/serve"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/trust"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/rules/inspect"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// removeKubeProxy removes what kube-proxy left in nftables and of its IPVS mode, and names what it left
// where netlink does not reach. root is that of /proc and /sys. What fails holds up nothing else.
func removeKubeProxy(w io.Writer, k *kernel.Kernel, i *inspect.Inspector, root string) error {
	left, leftErr := ipvs.Find(root)
	lines, serversErr := left.RemoveServers()
	gone, rulesErr := removeKubeProxyRules(k, i)
	if rulesErr == nil {
		lines = append(gone.Removed(), lines...)
	}
	sets, setsErr := left.RemoveSets() // after the rules that match them
	lines = append(lines, sets...)
	err := errors.Join(leftErr, serversErr, rulesErr, setsErr)
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

// removeKubeProxyRules removes what kube-proxy left in nftables, in one transaction, and returns what that was.
func removeKubeProxyRules(k *kernel.Kernel, i *inspect.Inspector) (inspect.KubeProxy, error) {
	found, err := i.FindKubeProxy()
	if err != nil {
		return found, err
	}
	if err := k.Commit(found.Removal()); err != nil {
		return found, fmt.Errorf("remove what kube-proxy left: %w", err)
	}
	return found, nil
}

// leftovers says what of kube-proxy's would compete with nftproxy.
func leftovers(i *inspect.Inspector, root string, processes competitors) ([]string, error) {
	out := slices.Clone(processes.notes)
	if pid := processes.kubeProxy; pid != "" {
		out = append(out, "kube-proxy is running as process "+pid+": two proxies compete for Services; stop one of them")
	} else if mode := kubeProxyMode(kubeProxyStatus); mode != "" {
		out = append(out, "kube-proxy answers at "+kubeProxyStatus+", in mode "+mode+": two proxies compete for Services; stop one of them")
	}
	found, err := i.FindKubeProxy()
	for _, what := range found.Found() {
		out = append(out, what+": these rules compete with ours; remove them with 'nftproxy cleanup --kube-proxy'")
	}
	left, leftErr := ipvs.Find(root)
	for _, what := range left.Found() {
		out = append(out, what+": remove it with 'nftproxy cleanup --kube-proxy'")
	}
	return append(out, elsewhere(root, left)...), errors.Join(err, leftErr)
}

// competitors is which other proxy runs.
type competitors struct {
	kubeProxy string   // its process; "" if none does
	notes     []string // what could not be told, or is not taken for a proxy
}

func findCompetitors(root string) competitors {
	pid, notes := runningKubeProxy(root)
	return competitors{pid, notes}
}

// kubeProxyStatus is where kube-proxy tells its mode unless it is told otherwise.
const kubeProxyStatus = "127.0.0.1:10249"

// kubeProxyMode returns the mode of the kube-proxy that answers at an address; "" if none
// does. A container does not see the processes of others, but on the node's network it
// reaches what they serve there.
func kubeProxyMode(address string) string {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 4 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Get("http://" + address + "/proxyMode")
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	const longest = 32 // anybody can serve anything there
	mode, err := io.ReadAll(io.LimitReader(answer.Body, longest))
	if err != nil || answer.StatusCode != http.StatusOK || answer.Header.Get("Server") == serve.ServerName {
		return ""
	}
	return printable.Word(string(mode))
}

// runningKubeProxy returns the process that is kube-proxy on this node, as far as this
// one sees others; "" if none is. notes says what is left out, as for all of these.
func runningKubeProxy(root string) (pid string, notes []string) {
	return running(root, "kube-proxy", nil)
}

// runningNftproxies returns the processes that are 'nftproxy run' on this node.
func runningNftproxies(root string) ([]trust.Process, []string) {
	found, notes := trust.Processes{Root: root}.Find("nftproxy")
	return slices.DeleteFunc(found, func(p trust.Process) bool { return !isRun(p.Args) }), notes
}

// runningOf returns the process that is 'nftproxy run' with a --service-proxy-name; "" if none is.
func runningOf(root, proxyName string) (pid string, notes []string) {
	return running(root, "nftproxy", func(args []string) bool { return isRun(args) && proxyNameIn(args) == proxyName })
}

// isRun says whether arguments of nftproxy are those of the command run.
func isRun(args []string) bool {
	args = slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return strings.HasPrefix(arg, "-") })
	return len(args) > 0 && args[0] == "run"
}

// proxyNameIn returns the --service-proxy-name among arguments, which may be those of another version.
func proxyNameIn(args []string) string {
	o, flags := runFlags()
	flags.ParseErrorsAllowlist.UnknownFlags = true
	_ = flags.Parse(args) // what there is of it
	return o.source.proxyName
}

// running returns the process of a name, if match is nil or its arguments do; "" if there is none.
func running(root, program string, match func(args []string) bool) (pid string, notes []string) {
	found, notes := trust.Processes{Root: root}.Find(program)
	for _, p := range found {
		if match == nil || match(p.Args) {
			return p.ID, notes
		}
	}
	return "", notes
}

// servesElsewhere says whether there is what kube-proxy would have programmed with legacy iptables or in IPVS.
func servesElsewhere(root string) bool {
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
