// SPDX-License-Identifier: Apache-2.0

package app

import (
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/trust"
	"github.com/nftproxy/nftproxy/lock"
)

// runningNftproxies returns the processes that are 'nftproxy run' on this node. Of several those come first that write their
// tables, before those that wait for that.
func runningNftproxies(root string) ([]trust.Process, []string) {
	found, notes := trust.Processes{Root: root}.Find("nftproxy")
	found = slices.DeleteFunc(found, func(p trust.Process) bool { return !isRun(p.Args) })
	if len(found) > 1 {
		writes := map[string]bool{}
		for _, p := range found {
			s, err := lock.Look(tableName(proxyNameIn(p.Args)))
			writes[p.ID] = err == nil && s.Holder != nil && strconv.Itoa(s.Holder.PID) == p.ID
		}
		slices.SortStableFunc(found, func(a, b trust.Process) int {
			switch {
			case writes[a.ID] == writes[b.ID]:
				return 0
			case writes[a.ID]:
				return -1
			}
			return 1
		})
	}
	return found, notes
}

// runningOf returns the process that is 'nftproxy run' with a --service-proxy-name; "" if none is.
func runningOf(root, proxyName string) (pid string, notes []string) {
	found, notes := runningNftproxies(root)
	for _, p := range found {
		if proxyNameIn(p.Args) == proxyName {
			return p.ID, notes
		}
	}
	return "", notes
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

// runFlags returns the flags of 'nftproxy run', for command lines of other processes.
func runFlags() (*runOptions, *pflag.FlagSet) {
	o := &runOptions{}
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	flags.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	flags.SetOutput(io.Discard)
	o.addFlags(flags)
	return o, flags
}
