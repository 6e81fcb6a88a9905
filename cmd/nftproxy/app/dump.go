// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/rules"
)

type dumpOptions struct {
	wantOptions
	kernel  bool
	output  string
	service string
	family  string
}

func dumpCommand(version string) *cobra.Command {
	o := dumpOptions{wantOptions: wantOptions{source: sourceOptions{version: version}}}
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "Print the rules as nft text, JSON or YAML",
		Long: `Print the rules that 'nftproxy run' would program for a directory of manifests or
a cluster, or, with --kernel, those that this node has. From manifests and from a
cluster it needs no privileges. This machine's own addresses count, as for 'run',
where it is the node: where the Node object has one of them; without a Node object,
where nftproxy has programmed it, or by the host's name if there are manifests.

The text is what 'nft list ruleset' of nft 1.0.6 prints for our tables, and
'nft -f' loads it, but for rules of session affinity and failover, and tables that
belong to a running nftproxy. JSON follows libnftables-json(5); YAML is the same document.
With --service only what that Service has is printed, with comments; with
--kernel, too, a source tells which frontends are the Service's.`,
		Example: `  nftproxy dump --manifests /etc/nftproxy/services
  nftproxy dump --manifests /etc/nftproxy/services --service default/web
  nftproxy dump --manifests /etc/nftproxy/services -o json --family ip6
  nftproxy dump --kernel`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	o.add(fs)
	fs.BoolVar(&o.kernel, "kernel", false, "print what this node's kernel holds")
	fs.StringVarP(&o.output, "output", "o", "nft", "`format`: nft, json or yaml")
	fs.StringVar(&o.service, "service", "", "only what the Service `NAMESPACE/NAME` has")
	fs.StringVar(&o.family, "family", "", "only the table of a `family`: ip or ip6")
	completeWith(cmd, "output", "nft", "json", "yaml")
	completeWith(cmd, "family", "ip", "ip6")
	return lookingCommand(cmd, &o.wantOptions)
}

// completeWith completes a flag with one of some words.
func completeWith(cmd *cobra.Command, flag string, words ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag
	}
}

func (o *dumpOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	write, ok := map[string]func(rules.State, io.Writer) error{
		"nft": o.writeText, "json": o.writeJSON, "yaml": o.writeYAML,
	}[o.output]
	if !ok {
		return fmt.Errorf("--output: %q is none of nft, json, yaml", o.output)
	}
	if o.family != "" && o.family != "ip" && o.family != "ip6" {
		return fmt.Errorf("--family: %q is neither ip nor ip6", o.family)
	}
	state, err := o.state(ctx, stderr)
	if err != nil {
		return err
	}
	for _, f := range rules.Families {
		if o.family != "" && o.family != f.String() {
			state.Tables[f] = nil
		}
	}
	return write(state, stdout)
}

// state returns what is to be printed.
func (o *dumpOptions) state(ctx context.Context, stderr io.Writer) (rules.State, error) {
	config, err := o.proxierConfig()
	if err != nil {
		return rules.State{}, err
	}
	var state rules.State
	if o.kernel {
		if state, err = readKernel(config.Rules.Table); err != nil || o.service == "" {
			return state, err
		}
	}
	var namespace, name string
	if o.service != "" {
		if namespace, name, err = parseService(o.service); err != nil {
			return rules.State{}, fmt.Errorf("--service: %w", err)
		}
	}
	var owned []rules.Owned
	if !o.kernel || o.given() {
		snapshot, err := o.snapshot(ctx, o.kernel, nil, stderr)
		if err != nil {
			return rules.State{}, err
		}
		owned = ownedBy(&snapshot, namespace, name)
		switch {
		case o.service != "" && len(owned) == 0:
			return rules.State{}, fmt.Errorf("there is no Service %s with a ClusterIP in %s", o.service, o.sourceName())
		case o.service == "":
			return snapshot.State, nil
		case !o.kernel:
			state = snapshot.State
		}
	}
	state = state.Select(namespace, name, owned)
	if state.Empty() {
		return state, fmt.Errorf("the kernel has no chain of a Service %s; one without a choice of endpoints needs none: "+
			"give --manifests or --kubeconfig, too, to see its frontends", o.service)
	}
	for f, t := range state.Tables {
		if t != nil && len(t.Chains)+len(t.Sets) == 0 {
			state.Tables[f] = nil
		}
	}
	return state, nil
}

// newerNft is what nft 1.0.6 lists and does not parse.
const newerNft = "ct original proto-dst"

func (o *dumpOptions) writeText(s rules.State, w io.Writer) error {
	write := s.WriteText
	if o.service != "" {
		write = s.WriteNotes
	}
	var text bytes.Buffer
	if err := write(&text); err != nil {
		return err
	}
	if strings.Contains(text.String(), newerNft) {
		fmt.Fprintf(w, "# nft 1.0.6 prints '%s' in a concatenation but cannot load it; nft 1.1.3 can.\n", newerNft)
	}
	_, err := text.WriteTo(w)
	return err
}

func (o *dumpOptions) writeJSON(s rules.State, w io.Writer) error {
	if o.service != "" {
		return s.WriteJSONNotes(w)
	}
	return s.WriteJSON(w)
}

// writeYAML turns JSON into YAML an object at a time: a large document as a whole takes
// gigabytes.
func (o *dumpOptions) writeYAML(s rules.State, w io.Writer) error {
	var text bytes.Buffer
	if err := o.writeJSON(s, &text); err != nil {
		return err
	}
	lines := bytes.Split(bytes.TrimSpace(text.Bytes()), []byte("\n"))
	out := bufio.NewWriter(w)
	fmt.Fprintln(out, "nftables:")
	for _, line := range lines[1 : len(lines)-1] { // an object each
		var object yaml.Node // JSON is YAML; this keeps its order
		if err := yaml.Unmarshal(joinSurrogates(bytes.TrimSuffix(line, []byte(","))), &object); err != nil {
			return fmt.Errorf("write YAML: %w", err)
		}
		block(&object)
		item, err := yaml.Marshal([]*yaml.Node{object.Content[0]})
		if err != nil {
			return fmt.Errorf("write YAML: %w", err)
		}
		if _, err := out.Write(printable.YAML(item)); err != nil {
			return err
		}
	}
	return out.Flush()
}

// escapes are those of JSON; of two that are one character, the halves.
var escapes = regexp.MustCompile(`\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|\\.`)

// joinSurrogates writes characters of which JSON escapes two halves as YAML does: \U0001f600.
func joinSurrogates(line []byte) []byte {
	return escapes.ReplaceAllFunc(line, func(escape []byte) []byte {
		halves := escapes.FindSubmatch(escape)
		high, err := strconv.ParseUint(string(halves[1]), 16, 16)
		if err != nil {
			return escape
		}
		low, _ := strconv.ParseUint(string(halves[2]), 16, 16) // as the expression has it
		return fmt.Appendf(nil, `\U%08x`, utf16.DecodeRune(rune(high), rune(low)))
	})
}

// block takes JSON's style from a document, but for strings that need it.
func block(n *yaml.Node) {
	n.Style = 0
	if n.Kind == yaml.ScalarNode && !printable.Is(n.Value) {
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, child := range n.Content {
		block(child)
	}
}
