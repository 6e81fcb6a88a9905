// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpWidth is how wide help is at most, in columns.
const helpWidth = 100

// commandGroups are the groups of commands, in the order of the help.
func commandGroups() []*cobra.Group {
	return []*cobra.Group{
		{ID: "look", Title: "Look and explain:"},
		{ID: "verify", Title: "Verify:"},
		{ID: "serve", Title: "Serve:"},
		{ID: "other", Title: "Other:"},
	}
}

// groupOf says to which of them a command belongs.
func groupOf(command string) string {
	switch command {
	case "get", "describe", "history", "ui", "explain", "trace", "top", "dump":
		return "look"
	case "check", "diff", "compare":
		return "verify"
	case "run", "ready", "cleanup", relayName:
		return "serve"
	}
	return "other"
}

// flagGroup is a group of flags in the help: those with these names, and with names that begin so.
type flagGroup struct {
	title    string
	names    []string
	prefixes []string
}

// flagGroups are the groups of flags that several commands share, in the order of the help.
func flagGroups() []flagGroup {
	return []flagGroup{
		{"Where Services come from", []string{"config", "context", "kubeconfig", "manifests", "master", "service-proxy-name", "socket"}, []string{"kube-api-"}},
		{"Which cluster, and as whom", []string{"cluster", "disable-compression", "insecure-skip-tls-verify", "proxy-url", "request-timeout", "server", "tls-server-name", "token", "user"}, []string{"as", "certificate-", "client-"}},
		{"This node", []string{"hostname-override", "node-ip", "bind-address", "nodeport-addresses", "feature-gates"}, nil},
		{"Which connections are masqueraded", []string{"cluster-cidr", "detect-local-mode"}, []string{"masquerade-", "pod-"}},
		{"How connections are spread", []string{"affinity-size", "count-period", "max-slots", "scheduler"}, []string{"failover", "maglev-"}},
		{"Connection tracking", []string{"sysctl-root"}, []string{"conntrack-"}},
		{"Health, metrics and counters", []string{"profiling", "service-metrics"}, []string{"healthz-", "metrics-", "probe-bind-", "bind-address-hard"}},
		{"When tables are written, and with which rights", []string{"own-tables", "sandbox", "oom-score-adj", "audit-period", "history", "min-sync-period", "sync-period"}, nil},
		{"The log", []string{"logging-format", "v", "vmodule"}, []string{"log-"}},
	}
}

// has says whether a flag is of a group.
func (g *flagGroup) has(name string) bool {
	for _, n := range g.names {
		if n == name {
			return true
		}
	}
	for _, p := range g.prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// addHelp gives a program's commands their groups and their help, and their faults hints. Where it writes is known by then: cobra's
// completions remember that.
func addHelp(root *cobra.Command) {
	root.AddGroup(commandGroups()...)
	for _, c := range root.Commands() {
		c.GroupID = groupOf(c.Name())
	}
	root.SetHelpCommandGroupID("other")
	root.InitDefaultHelpCmd()
	root.SetCompletionCommandGroupID("other")
	root.InitDefaultCompletionCmd()
	root.SetUsageFunc(func(cmd *cobra.Command) error { return writeUsage(cmd.OutOrStdout(), cmd) })
	saysUsage(root)
}

// writeUsage writes how a command is called: what its help has after the text.
func writeUsage(w io.Writer, cmd *cobra.Command) error {
	var b strings.Builder
	b.WriteString("Usage:\n")
	if cmd.Runnable() {
		fmt.Fprintf(&b, "  %s\n", cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s COMMAND\n", cmd.CommandPath())
	}
	if cmd.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	for _, g := range append(cmd.Groups(), &cobra.Group{Title: "Commands:"}) {
		writeCommands(&b, cmd, g)
	}
	writeFlags(&b, cmd.LocalFlags())
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n'%s COMMAND --help' says more of a command.\n", cmd.CommandPath())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeCommands(b *strings.Builder, cmd *cobra.Command, g *cobra.Group) {
	title := "\n" + g.Title + "\n"
	for _, c := range cmd.Commands() {
		if c.GroupID == g.ID && (c.IsAvailableCommand() || c.Name() == "help") {
			fmt.Fprintf(b, "%s  %-*s %s\n", title, c.NamePadding(), c.Name(), c.Short)
			title = ""
		}
	}
}

// writeFlags writes the flags by groups, those of the command alone first.
func writeFlags(b *strings.Builder, all *pflag.FlagSet) {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	shared := make([]*pflag.FlagSet, len(flagGroups()))
	for i := range shared {
		shared[i] = pflag.NewFlagSet("", pflag.ContinueOnError)
	}
	all.VisitAll(func(f *pflag.Flag) {
		for i, g := range flagGroups() {
			if g.has(f.Name) {
				shared[i].AddFlag(f)
				return
			}
		}
		own.AddFlag(f)
	})
	write := func(title string, fs *pflag.FlagSet) {
		if fs.HasAvailableFlags() {
			fmt.Fprintf(b, "\n%s:\n%s", title, fs.FlagUsagesWrapped(helpWidth))
		}
	}
	write("Flags", own)
	for i, g := range flagGroups() {
		write(g.title, shared[i])
	}
}
