// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/rules"
)

func diffCommand(version string) *cobra.Command {
	o := wantOptions{source: sourceOptions{version: version}}
	var output string
	cmd := &cobra.Command{
		Use:   "diff",
		Short: "Compare this node's kernel with what it should hold",
		Long: `Compare what this node's kernel holds with what 'nftproxy run' would program for a
cluster or a directory of manifests, and print what is missing, extra or
different. Nothing is changed.

Where 'nftproxy run' runs, it answers itself, at its socket. Where it cannot be asked, or an
option of its own is given, its source and options count, but for those that are given. It
has to be root's or this user's, and this very program with the same files; a credential
plugin of its kubeconfig is not run. With a source give all options that 'nftproxy run' has.

The exit code is 0 if they are equal, 1 if they differ, 2 after an error.`,
		Example: `  nftproxy diff
  nftproxy diff --manifests /etc/nftproxy/services
  nftproxy diff --kubeconfig /etc/kubernetes/proxy.conf --cluster-cidr 10.244.0.0/16
  nftproxy diff --config /var/lib/kube-proxy/config.conf`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.diff(cmd.Context(), output, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	o.add(cmd.Flags())
	cmd.Flags().StringVarP(&output, "output", "o", "text", "`format`: text or json")
	completeWith(cmd, "output", "text", "json")
	return askingCommand(cmd, &o, func(cmd *cobra.Command, _ []string) (bool, error) {
		if textOrJSON(output) != nil {
			return false, nil //nolint:nilerr // diff says what is wrong with the format
		}
		client, err := o.runsHere(cmd)
		if client == nil || err != nil {
			return false, err
		}
		found, err := client.Diff(cmd.Context())
		if err != nil {
			return false, nil //nolint:nilerr // there is another way to the answer
		}
		return true, writeDiff(cmd.OutOrStdout(), output, &found)
	})
}

func (o *wantOptions) diff(ctx context.Context, output string, stdout, stderr io.Writer) error {
	if err := textOrJSON(output); err != nil {
		return err
	}
	snapshot, err := o.snapshot(ctx, true, nil, stderr)
	if err != nil {
		return err
	}
	have, err := readKernel(snapshot.Config.Table)
	if err != nil {
		return err
	}
	snapshot.Follow(have)
	list := rules.Differences(have, snapshot.State)
	found := ask.Diff{Equal: len(list) == 0, ServicePorts: len(snapshot.Ports), Differences: append([]rules.Difference{}, list...), Counts: map[rules.DifferenceKind]int{}}
	for _, d := range list {
		found.Counts[d.Kind]++
	}
	return writeDiff(stdout, output, &found)
}

// writeDiff writes what was found; there is an exit code for differences.
func writeDiff(stdout io.Writer, output string, found *ask.Diff) (err error) {
	switch {
	case output == "json":
		err = writeJSON(stdout, found)
	case found.Equal:
		_, err = fmt.Fprintf(stdout, "equal: the kernel holds just what %d service ports need\n", found.ServicePorts)
	default:
		writeDifferences(stdout, found)
	}
	if err == nil && !found.Equal {
		return &exitError{code: exitNo}
	}
	return err
}

// writeJSON writes a value for programs and for people.
func writeJSON(w io.Writer, v any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(printable.JSON(text.Bytes()))
	return err
}

// writeDifferences writes a line for each difference, and below it the lines that
// only the kernel has (-) and those that it should have (+); and how many there are.
func writeDifferences(w io.Writer, found *ask.Diff) {
	c := coloursFor(w)
	for _, d := range found.Differences {
		kind := fmt.Sprintf("%-9s", d.Kind)
		switch d.Kind {
		case rules.Missing:
			kind = c.green(kind)
		case rules.Extra:
			kind = c.red(kind)
		default:
			kind = c.yellow(kind)
		}
		fmt.Fprintf(w, "%s  %-3s  %s\n", kind, d.Family, d.Object)
		for _, line := range d.Have {
			fmt.Fprintf(w, "    %s\n", c.red("- "+line))
		}
		for _, line := range d.Want {
			fmt.Fprintf(w, "    %s\n", c.green("+ "+line))
		}
	}
	if found.More > 0 {
		fmt.Fprintf(w, "and %d more\n", found.More)
	}
	fmt.Fprintf(w, "%d missing, %d extra, %d different\n", found.Counts[rules.Missing], found.Counts[rules.Extra], found.Counts[rules.Different])
	fmt.Fprint(w, explain.OptionsHint(found.Differences))
}
