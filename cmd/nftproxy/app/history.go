// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
)

type historyOptions struct {
	source    sourceOptions
	namespace string
	since     time.Duration
	output    string
}

func historyCommand(version string) *cobra.Command {
	o := &historyOptions{source: sourceOptions{version: version}}
	cmd := &cobra.Command{
		Use:   "history [SERVICE]",
		Short: "Say what was changed in the kernel's tables, when and what for",
		Long: `Say what the nftproxy that runs on this node has done to the kernel's tables, the newest
last: when, how long it took from the change until the kernel had it, what changed for
Services, and what for: which EndpointSlice, Service or Node had changed, which other
program had changed the tables, or what a comparison found.

The time is that from the change of a pod, as its EndpointSlice tells, else, with a '<',
that from when the change came in here.

SERVICE is NAMESPACE/NAME, or NAME with --namespace; without one it is all that happened.
The last 1,000 transactions are remembered ('nftproxy run --history').`,
		Example: `  nftproxy history
  nftproxy history default/web --since 1h
  nftproxy history web -n default -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			service := ""
			if len(args) > 0 {
				service = args[0]
			}
			return o.run(cmd.Context(), service, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&o.namespace, "namespace", "n", "default", "`namespace` of a Service that is given by its name alone")
	fs.DurationVar(&o.since, "since", 0, "only what happened in this last `time`, such as 1h (default: all that is remembered)")
	fs.StringVarP(&o.output, "output", "o", "text", "`format`: text or json")
	o.source.addSocket(fs)
	completeWith(cmd, "output", "text", "json")
	return cmd
}

func (o *historyOptions) run(ctx context.Context, service string, stdout, stderr io.Writer) error {
	switch {
	case textOrJSON(o.output) != nil:
		return textOrJSON(o.output)
	case o.since < 0:
		return fmt.Errorf("--since: %s is below 0", o.since)
	}
	if service != "" && !strings.Contains(service, "/") {
		service = o.namespace + "/" + service
	}
	client, err := o.source.dial(ctx, stderr)
	if err != nil {
		return err
	}
	list, err := client.Transactions(ctx, 0)
	if err != nil {
		return err
	}
	from := time.Time{}
	if o.since > 0 {
		from = time.Now().Add(-o.since)
	}
	list = slices.DeleteFunc(list, func(t ask.Transaction) bool { return t.At.Before(from) || !concerns(&t, service) })
	if o.output == "json" {
		return writeJSON(stdout, items{asAny(list)})
	}
	if len(list) == 0 {
		_, err = fmt.Fprintln(stderr, "Nothing was changed.")
		return err
	}
	return writeHistory(stdout, list, service)
}

// asAny returns a list as documents have it.
func asAny[T any](list []T) []any {
	out := make([]any, len(list))
	for i := range list {
		out[i] = list[i]
	}
	return out
}

// concerns says whether a transaction is, or may be, about a Service; about any if none is named.
func concerns(t *ask.Transaction, service string) bool {
	return service == "" || t.ServicePorts > len(t.Ports) ||
		slices.ContainsFunc(t.Ports, func(w ask.Written) bool { return w.Namespace+"/"+w.Name == service }) ||
		slices.ContainsFunc(t.Causes, func(c ask.Cause) bool { return c.Kind == "Service" && c.Name == service })
}

// writeHistory writes lines about transactions, only those about a Service if one is named.
func writeHistory(w io.Writer, list []ask.Transaction, service string) error {
	var rows [][]string
	day := ""
	for i := range list {
		t := &list[i]
		at := t.At.Local()
		if today := at.Format(time.DateOnly); today != day {
			day = today
			rows = append(rows, []string{day})
		}
		lines := changesOf(t, service)
		for j, line := range lines {
			when, after := "", ""
			if j == 0 {
				when, after = at.Format("15:04:05.000"), delayText(&t.Times)
			}
			rows = append(rows, []string{when, after, line})
		}
		if why := causeText(t); why != "" {
			rows = append(rows, []string{"", "", "  " + why})
		}
	}
	var b strings.Builder
	for _, row := range rows {
		if len(row) == 1 {
			fmt.Fprintln(&b, row[0])
			continue
		}
		fmt.Fprintf(&b, "%-12s  %9s  %s\n", row[0], row[1], row[2])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// delayText says how long it was until the kernel had a change.
func delayText(t *ask.Times) string {
	switch {
	case t.Delay > 0:
		return shortTime(t.Delay)
	case t.Waited > 0:
		return "<" + shortTime(t.Waited)
	}
	return shortTime(t.Took)
}

// shortTime writes milliseconds in at most 7 characters.
func shortTime(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond))
	switch {
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", ms)
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// changesOf says in words what a transaction has changed.
func changesOf(t *ask.Transaction, service string) (out []string) {
	named := 0
	for i := range t.Ports {
		p := &t.Ports[i]
		if service != "" && p.Namespace+"/"+p.Name != service {
			continue
		}
		named++
		out = append(out, writtenText(p))
	}
	if more := t.ServicePorts - len(t.Ports); more > 0 && named < t.ServicePorts {
		out = append(out, fmt.Sprintf("%d service ports that are not named", more))
	}
	if t.Repairs != "" {
		out = append(out, "repaired: "+t.Repairs)
	}
	if t.Refused != "" {
		out = append(out, "the kernel refused: "+t.Refused)
	}
	if len(out) == 0 {
		out = append(out, t.Why)
	}
	return out
}

// writtenText says in words what has changed for a service port.
func writtenText(p *ask.Written) string {
	name := p.Namespace + "/" + p.Name
	if p.Port != "" {
		name += ":" + p.Port
	}
	if p.Family == "ip6" {
		name += " (IPv6)"
	}
	var parts []string
	say := func(what string, list []string, n int) {
		if n == 0 {
			return
		}
		const most = 3
		text := strings.Join(list[:min(most, len(list))], ", ")
		if n > most {
			text += fmt.Sprintf(" and %d more", n-most)
		}
		parts = append(parts, what+" "+text)
	}
	say("served at", p.Begun, p.BegunCount)
	say("no more served at", p.Ended, p.EndedCount)
	say("new endpoints", p.Came, p.CameCount)
	say("lost endpoints", p.Went, p.WentCount)
	switch {
	case len(parts) == 0:
		return name + ": written anew, with the same addresses and endpoints"
	case p.Used == 0 && p.WentCount > 0 && p.EndedCount == 0:
		parts = append(parts, "none is left")
	case p.CameCount+p.WentCount > 0 && p.EndedCount == 0:
		parts = append(parts, fmt.Sprintf("%d now", p.Used))
	}
	return name + ": " + strings.Join(parts, "; ")
}

// causeText says what a transaction was for.
func causeText(t *ask.Transaction) string {
	var parts []string
	for _, c := range t.Causes {
		switch c.Kind {
		case "failover":
			parts = append(parts, "an endpoint of Service "+c.Name+" has ceased to answer, or answers again")
		case "shares":
			parts = append(parts, "open connections or time have changed the endpoints' shares")
		case "API server":
			parts = append(parts, "this node reaches its API server elsewhere")
		default:
			parts = append(parts, c.Kind+" "+c.Name+" "+c.What)
		}
	}
	if more := t.CauseCount - len(t.Causes); more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	switch {
	case t.By != "":
		parts = append(parts, "changed by "+t.By)
	case t.Repairs != "":
		parts = append(parts, t.Why)
	}
	if len(parts) == 0 {
		return ""
	}
	return "because: " + strings.Join(parts, ", ")
}
