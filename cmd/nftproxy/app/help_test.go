// SPDX-License-Identifier: Apache-2.0

package app

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// eachCommand calls fn for all commands, the program itself too, with the words that name them.
func eachCommand(fn func(cmd *cobra.Command, words []string)) {
	root := rootCommand("v1.2.3", nil)
	addHelp(root)
	var walk func(cmd *cobra.Command, words []string)
	walk = func(cmd *cobra.Command, words []string) {
		fn(cmd, words)
		for _, c := range cmd.Commands() {
			walk(c, append(slices.Clone(words), c.Name()))
		}
	}
	walk(root, nil)
}

// TestHelpWidth: no line of any command's help is wider than helpWidth.
func TestHelpWidth(t *testing.T) {
	commands := 0
	eachCommand(func(_ *cobra.Command, words []string) {
		commands++
		code, out, stderr := run(t, append(words, "--help")...)
		if code != 0 || stderr != "" || !strings.Contains(out, "Usage:") {
			t.Errorf("%q --help: exit code %d: %s%s", words, code, out, stderr)
		}
		for line := range strings.Lines(out) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > helpWidth {
				t.Errorf("%q --help has a line of %d columns: %s", words, n, line)
			}
		}
	})
	if commands < 15 {
		t.Errorf("there are %d commands: they are not found", commands)
	}
}

// TestHelpGroups: each command is in a group on purpose, flags that several commands share are in groups of their own, and no group is empty.
func TestHelpGroups(t *testing.T) {
	root := rootCommand("v1.2.3", nil)
	addHelp(root)
	shared := map[string]int{}
	used := map[string]bool{}
	for _, c := range root.Commands() {
		if c.GroupID == "other" && !slices.Contains([]string{"version", "help", "completion"}, c.Name()) {
			t.Errorf("%s is in the group of other commands", c.Name())
		}
		c.Flags().VisitAll(func(f *pflag.Flag) { shared[f.Name]++ })
	}
	plugin := rootCommand("v1.2.3", nil)
	asPlugin(plugin)
	addHelp(plugin)
	for _, c := range plugin.Commands() {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			for _, g := range flagGroups() {
				used[g.title] = used[g.title] || g.has(f.Name)
			}
		})
		var b strings.Builder
		must(t, writeUsage(&b, c))
		for line := range strings.Lines(b.String()) {
			if utf8.RuneCountInString(line) > helpWidth+1 {
				t.Errorf("kubectl nftproxy %s --help has a line that is too wide: %s", c.Name(), line)
			}
		}
	}
	const most = 14 // that run and one command more would share are its own
	for name, n := range shared {
		groups := 0
		for _, g := range flagGroups() {
			if g.has(name) {
				groups++
				used[g.title] = true
			}
		}
		if groups > 1 || n > 4 && groups == 0 && name != "output" && name != "help" {
			t.Errorf("--%s, which %d commands have, is in %d groups", name, n, groups)
		}
	}
	for _, g := range flagGroups() {
		if !used[g.title] {
			t.Errorf("no flag is in the group %q", g.title)
		}
	}
	eachCommand(func(cmd *cobra.Command, words []string) {
		own := 0
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !slices.ContainsFunc(flagGroups(), func(g flagGroup) bool { return g.has(f.Name) }) {
				own++
			}
		})
		if own > most {
			t.Errorf("%q has %d flags in no group", words, own)
		}
	})
	if _, out, _ := run(t, "--help"); !strings.Contains(out, "Look and explain:\n") || strings.Contains(out, "Available Commands") {
		t.Errorf("the help has no groups:\n%s", out)
	}
}

// TestMeant: a word that is nearly right is answered with what was meant, and one that is not with none; each says where the help is.
func TestMeant(t *testing.T) {
	for _, tt := range []struct {
		args, want string
	}{
		{"explian default/web", `unknown command "explian": did you mean explain?: see 'nftproxy --help'`},
		{"dif", `unknown command "dif": did you mean diff?`},
		{"fly", `unknown command "fly": see 'nftproxy --help'`},
		{"diff --manifest .", `unknown flag: --manifest: did you mean --manifests?: see 'nftproxy diff --help'`},
		{"diff --cluster_cdir 10.0.0.0/8", "did you mean --cluster-cidr?"},
		{"run --scheduller random", "did you mean --scheduler?"},
		{"cleanup --kubeproxy", "did you mean --kube-proxy?"},
		{"diff --xyzzy", "unknown flag: --xyzzy: see 'nftproxy diff --help'"},
		{"diff -x", "unknown shorthand flag: 'x' in -x: see 'nftproxy diff --help'"},
		{"explain", "accepts 1 arg(s), received 0: see 'nftproxy explain --help'"},
		{"get servcies", `"servcies" is nothing that can be listed: did you mean services?`},
		{"get everything", `"everything" is nothing that can be listed: there are services`},
		{"top --rows many", "see 'nftproxy top --help'"},
		{"version now", "see 'nftproxy version --help'"},
		{"completion bahs", `unknown command "bahs": did you mean bash?: see 'nftproxy completion --help'`},
		{"x" + strings.Repeat("explain", 10_000), `see 'nftproxy --help'`},
		{"exp\x1b[2Jlain", `unknown command "exp\x1b[2Jlain"`},
	} {
		code, stdout, stderr := run(t, strings.Fields(tt.args)...)
		if code != 2 || stdout != "" || !strings.HasPrefix(stderr, "nftproxy: ") || !strings.Contains(stderr, tt.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%.60s: exit code %d, %q, %.300q; want 2, nothing and %q", tt.args, code, stdout, stderr, tt.want)
		}
	}
}
