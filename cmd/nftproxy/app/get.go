// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/printable"
)

type getOptions struct {
	wantOptions
	tableView
	namespace string
	sortBy    string
	selector  string
	watch     bool
}

const getHelp = `List what the nftproxy that runs on this node knows. It answers at its socket, to root and
to the user that it runs as.

services (svc)  a line for each port and family, with how many of its endpoints get new
                connections from this node, are ready, and are there at all. The state is
                ok, no endpoints, conflict if another Service has one of its frontends, or
                refused if the kernel refuses what it should hold
endpoints (ep)  whether each endpoint gets new connections from this node, and why not;
                NAME is a Service's
conflicts       the frontends that Services do without, and who is served there
refused         the service ports whose objects the kernel refuses, and why
connections     how many connections are open from each frontend to each endpoint, and
                whether the endpoint still gets new ones (conn)
affinity        the clients that stay with an endpoint (sessionAffinity), and for how long
transactions    what was done to the tables last, up to 1,000 times: when, how long it took,
                how long before the oldest of the changes was made as its EndpointSlice
                says, and what for

With -o wide, services shows the new connections a second, for which it counts a second
long, where the kernel counts them ('nftproxy run --service-metrics'); not with --watch.
--selector chooses Services by their labels.

--output is wide, json, yaml, name, jsonpath=TEMPLATE or custom-columns=HEADER:PATH,...;
paths are those of kubectl, from the items that -o json shows.`

func getCommand(version string) *cobra.Command {
	o := &getOptions{wantOptions: wantOptions{source: sourceOptions{version: version}}}
	cmd := &cobra.Command{
		Use:   "get LIST [NAME]",
		Short: "List Services, endpoints and more as this node serves them",
		Long:  getHelp,
		Example: `  nftproxy get services -A
  nftproxy get svc -n default
  nftproxy get services web -n default -o json
  nftproxy get services -A -o wide --no-headers
  nftproxy get services -A -l app=web
  nftproxy get services -A -o custom-columns=NAME:.name,TYPE:.type --sort-by .type
  nftproxy get services -A -o jsonpath={.items[*].name}
  nftproxy get endpoints web -n default
  nftproxy get conflicts -A
  nftproxy get connections web -n default
  nftproxy get affinity -A
  nftproxy get transactions -o yaml`,
		Args: cobra.RangeArgs(1, 2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
			if len(args) == 0 {
				for _, l := range listings() {
					names = append(names, l.names[0])
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
	o.add(cmd)
	cmd.RunE = o.run
	return untilUnheard(cmd)
}

func (o *getOptions) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVarP(&o.namespace, "namespace", "n", "default", "`namespace` of the Services")
	fs.BoolVarP(&o.all, "all-namespaces", "A", false, "list those of all namespaces")
	fs.StringVarP(&o.output, "output", "o", "", "`format`: wide, json, yaml, name, jsonpath=TEMPLATE or custom-columns=HEADER:PATH,...")
	fs.BoolVar(&o.noHeaders, "no-headers", false, "print no names of columns")
	fs.StringVar(&o.sortBy, "sort-by", "", "sort by what is at this `path` of the items, such as .name")
	fs.StringVarP(&o.selector, "selector", "l", "", "only what is of Services whose labels match this `selector`, such as app=web,tier!=test")
	fs.BoolVarP(&o.watch, "watch", "w", false, "go on, and print the lines that are new or have changed")
	o.source.addSocket(fs)
	completeWith(cmd, "output", "wide", "json", "yaml", "name")
}

func (o *getOptions) run(cmd *cobra.Command, args []string) error {
	l, err := listingOf(args[0])
	if err != nil {
		return err
	}
	name := ""
	if len(args) > 1 {
		name = args[1]
	}
	print, err := o.printer(l, name != "" && l.names[0] == "services")
	switch {
	case err != nil:
		return err
	case name != "" && !l.named:
		return fmt.Errorf("%s have no names", l.names[0])
	case name != "" && o.all:
		return errors.New("a name and -A do not go together: give the Service's namespace with -n")
	case o.selector != "" && (name != "" || !l.spaced):
		return errors.New("--selector chooses among Services: leave out the name, and ask for what is of Services")
	case o.watch && o.output != "" && o.output != "wide":
		return errors.New("--watch goes with lines: leave --output out, or wide")
	}
	client, err := o.source.dial(cmd.Context(), cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	namespace := o.namespace
	if o.all {
		namespace = ""
	}
	fetch := func() ([]listItem, error) {
		list, ferr := l.fetch(cmd.Context(), client, ask.Choice{Namespace: namespace, Name: name, Selector: o.selector})
		if ferr == nil && o.output == "wide" && l.names[0] == "services" && !o.watch {
			ferr = addRates(cmd.Context(), client, namespace, l, list)
		}
		if ferr != nil {
			return nil, ferr
		}
		return list, sortItems(list, o.sortBy)
	}
	if o.watch {
		return o.follow(cmd.Context(), cmd.OutOrStdout(), l, fetch)
	}
	list, err := fetch()
	if err != nil {
		return err
	}
	if len(list) == 0 && (o.output == "" || o.output == "wide") {
		where := ""
		if l.spaced && !o.all {
			where = " in namespace " + printable.Word(o.namespace)
		}
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "No %s found%s.\n", l.names[0], where)
		return err
	}
	return print(cmd.OutOrStdout(), list)
}

// follow lists, and then again and again what is new, until ctx ends. It takes a tenth of the daemon's time at most.
func (o *getOptions) follow(ctx context.Context, w io.Writer, l *listing, fetch func() ([]listItem, error)) error {
	t := o.table(l)
	var before map[string]bool
	for {
		began := time.Now()
		list, err := fetch()
		if err != nil {
			return err
		}
		now := map[string]bool{}
		for i := range list {
			list[i].rows = slices.DeleteFunc(list[i].rows, func(row []string) bool {
				key := list[i].namespace + "\x00" + strings.Join(row, "\x00")
				now[key] = true
				return before[key]
			})
		}
		if err := t.write(w, list); err != nil {
			return err
		}
		before = now
		const tenth, shortest = 10, time.Second
		select {
		case <-time.After(max(shortest, tenth*time.Since(began))):
		case <-ctx.Done():
			return nil
		}
	}
}
