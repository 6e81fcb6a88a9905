// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/printable"
)

type getOptions struct {
	wantOptions
	namespace string
	all       bool
	output    string
	noHeaders bool
}

func getCommand(version string) *cobra.Command {
	o := &getOptions{wantOptions: wantOptions{source: sourceOptions{version: version}}}
	cmd := &cobra.Command{
		Use:   "get services [NAME]",
		Short: "List Services as this node serves them",
		Long: `List Services as the nftproxy that runs on this node serves them: a line for each port
and family, with how many of its endpoints get new connections from this node, are
ready, and are there at all. The state is ok, no endpoints, or conflict, if another
Service has one of its frontends: 'nftproxy explain' says which, and why.

It answers at its socket, to root and to the user that it runs as.`,
		Example: `  nftproxy get services -A
  nftproxy get svc -n default
  nftproxy get services web -n default -o json
  nftproxy get services -A -o name
  nftproxy get services -A -o wide --no-headers`,
		Args: cobra.RangeArgs(1, 2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return []string{"services"}, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&o.namespace, "namespace", "n", "default", "`namespace` of the Services")
	fs.BoolVarP(&o.all, "all-namespaces", "A", false, "list those of all namespaces")
	fs.StringVarP(&o.output, "output", "o", "", "`format`: wide, json or name")
	fs.BoolVar(&o.noHeaders, "no-headers", false, "print no names of columns")
	fs.StringVar(&o.source.socket, "socket", ask.DefaultSocket, "Unix socket, a `path`, at which the nftproxy that runs is asked; TABLE stands for the tables' name")
	fs.StringVar(&o.source.proxyName, "service-proxy-name", "", "`name` of the nftproxy to ask, if it was started with one")
	completeWith(cmd, "output", "wide", "json", "name")
	fault := func(err error) error {
		if err == nil {
			return nil
		}
		return &exitError{exitFault, err}
	}
	args := cmd.Args
	cmd.Args = func(cmd *cobra.Command, a []string) error { return fault(args(cmd, a)) }
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return fault(o.run(cmd, args)) }
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fault(err) })
	return cmd
}

func (o *getOptions) run(cmd *cobra.Command, args []string) error {
	switch args[0] {
	case "services", "service", "svc":
	default:
		return fmt.Errorf("%q is nothing that can be listed: there are services", args[0])
	}
	switch o.output {
	case "", "wide", "json", "name":
	default:
		return fmt.Errorf("--output: %q is none of wide, json, name", o.output)
	}
	if o.all && len(args) > 1 {
		return errors.New("a name and -A do not go together: give the Service's namespace with -n")
	}
	client, err := ask.Dial(cmd.Context(), o.socket(), tableName(o.source.proxyName))
	if err != nil {
		return fmt.Errorf("no nftproxy answers here: %w: is it running on this node, and are you root?", err)
	}
	if len(args) > 1 {
		s, serr := client.Service(cmd.Context(), o.namespace, args[1])
		if serr != nil {
			return serr
		}
		if o.output == "json" {
			return writeJSON(cmd.OutOrStdout(), s)
		}
		return o.write(cmd.OutOrStdout(), []ask.Service{s})
	}
	if o.all {
		o.namespace = ""
	}
	list, err := client.Services(cmd.Context(), o.namespace)
	switch {
	case err != nil:
		return err
	case o.output == "json":
		return writeJSON(cmd.OutOrStdout(), ask.Services{Services: append([]ask.Service{}, list...)})
	case len(list) == 0 && o.output != "name":
		where := ""
		if !o.all {
			where = " in namespace " + printable.Word(o.namespace)
		}
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "No Services found%s.\n", where)
		return err
	}
	return o.write(cmd.OutOrStdout(), list)
}

// write writes a line for each service port.
func (o *getOptions) write(w io.Writer, list []ask.Service) error {
	if o.output == "name" {
		for _, s := range list {
			if _, err := fmt.Fprintln(w, "service/"+s.Name); err != nil {
				return err
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	row := func(namespace string, words ...string) {
		if o.all {
			words = append([]string{namespace}, words...)
		}
		fmt.Fprintln(t, strings.Join(words, "\t"))
	}
	if !o.noHeaders {
		words := []string{"NAME", "PORT", "TYPE", "FRONTEND", "SCHEDULER", "POLICIES", "USED/READY/ALL", "STATE"}
		if o.output == "wide" {
			words = append(words, "AFFINITY", "NOTES")
		}
		row("NAMESPACE", words...)
	}
	for _, s := range list {
		for i := range s.Ports {
			row(s.Namespace, o.words(&s, &s.Ports[i])...)
		}
	}
	return t.Flush()
}

// words are the columns of a service port.
func (o *getOptions) words(s *ask.Service, p *ask.Port) []string {
	policies := p.Internal
	if p.External != "" && p.External != p.Internal {
		policies += "," + p.External
	}
	frontends := p.Frontends
	const most = 2
	if more := len(frontends) - most; more > 0 && o.output != "wide" {
		frontends = append(frontends[:most:most], fmt.Sprintf("+%d more", more))
	}
	port := p.Port
	if port == "" {
		port = strconv.Itoa(int(p.Number))
	}
	words := []string{s.Name, port + "/" + p.Protocol, s.Type, orNone(strings.Join(frontends, ",")), p.Scheduler, policies,
		fmt.Sprintf("%d/%d/%d", p.Used, p.Ready, p.All), string(p.State)}
	if o.output == "wide" {
		affinity := ""
		if p.Affinity > 0 {
			affinity = fmt.Sprintf("%ds", p.Affinity)
		}
		words = append(words, orNone(affinity), orNone(strings.Join(s.Notes, "; ")))
	}
	return words
}

// orNone writes what kubectl writes for nothing.
func orNone(text string) string {
	if text == "" {
		return "<none>"
	}
	return text
}
