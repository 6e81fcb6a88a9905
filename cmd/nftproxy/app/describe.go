// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/printable"
)

type describeOptions struct {
	wantOptions
	namespace string
}

func describeCommand(version string) *cobra.Command {
	o := &describeOptions{wantOptions: wantOptions{source: sourceOptions{version: version, userConfig: true}}}
	cmd := &cobra.Command{
		Use:   "describe service NAME",
		Short: "Tell all that is known of one Service on this node",
		Long: `Tell all that the nftproxy that runs on this node knows of a Service: its labels and
policies; each endpoint, and why it gets connections or not; what becomes of connections
to each of its addresses, and by which rules; conflicts, and what the kernel refuses;
open connections by endpoint; the last changes; and its Events, where an API server can be
asked (--kubeconfig, that of the nftproxy that runs, in-cluster configuration, or
kubectl's).`,
		Example: `  nftproxy describe service web -n default
  nftproxy describe svc/web
  nftproxy describe service default/web`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 && !slices.Contains(serviceWords(), args[0]) {
				return fmt.Errorf("%q cannot be described: only a service can", args[0])
			}
			return o.run(cmd, strings.Join(args, "/"))
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&o.namespace, "namespace", "n", "default", "`namespace` of the Service")
	fs.StringVar(&o.kubeProxy.ClientConnection.Kubeconfig, "kubeconfig", "", "kubeconfig `file` of the API server that is asked for Events")
	o.source.addSocket(fs)
	return cmd
}

// serviceWords are kubectl's words for Services.
func serviceWords() []string { return []string{"service", "services", "svc"} }

func (o *describeOptions) run(cmd *cobra.Command, text string) error {
	ctx, w := cmd.Context(), cmd.OutOrStdout()
	if kind, rest, _ := strings.Cut(text, "/"); strings.Contains(rest, "/") && slices.Contains(serviceWords(), kind) {
		text = rest // service NAMESPACE/NAME
	}
	target, err := explain.ParseTarget(text, o.namespace)
	if err == nil && target.Name == "" {
		err = fmt.Errorf("%q is no Service: give 'service NAME', or explain an address", text)
	}
	if err != nil {
		return err
	}
	client, err := o.source.dial(ctx, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	s, err := client.Service(ctx, target.Namespace, target.Name)
	if err != nil {
		return err
	}
	c := coloursFor(w)
	d := &description{w: w, title: c.bold}
	d.head(&s)
	e, err := client.Explain(ctx, target.Service(), nil)
	d.section("Connections from here on", err, func() error {
		return e.WriteText(w, explain.Style{Title: c.bold, Good: c.green, Bad: c.red, Rules: true})
	})
	d.refused(ctx, client, &s)
	d.connections(ctx, client, &s)
	d.changes(ctx, client, &s)
	d.events(ctx, o, &s)
	return d.err
}

// description writes sections. After an error it writes no more.
type description struct {
	w     io.Writer
	title func(string) string
	err   error
}

// section writes a part, or why it cannot be told. Nothing follows a title if the part writes nothing.
func (d *description) section(title string, err error, write func() error) {
	if d.err != nil {
		return
	}
	if _, d.err = fmt.Fprintf(d.w, "\n%s\n", d.title(title)); d.err != nil {
		return
	}
	if err != nil {
		_, d.err = fmt.Fprintf(d.w, "  not known: %s\n", printable.Error(err))
		return
	}
	d.err = write()
}

// line writes a line of a part.
func (d *description) line(format string, args ...any) error {
	_, err := fmt.Fprintf(d.w, "  "+format+"\n", args...)
	return err
}

func (d *description) head(s *ask.Service) {
	labels := "<none>"
	if len(s.Labels) > 0 {
		var list []string
		for _, key := range slices.Sorted(maps.Keys(s.Labels)) {
			list = append(list, key+"="+s.Labels[key])
		}
		labels = strings.Join(list, ",")
	}
	_, d.err = fmt.Fprintf(d.w, "Name:       %s\nNamespace:  %s\nType:       %s\nLabels:     %s\n", s.Name, s.Namespace, s.Type, labels)
	for i := range s.Ports {
		p := &s.Ports[i]
		name := cmp.Or(p.Port, fmt.Sprint(p.Number))
		if d.err == nil {
			_, d.err = fmt.Fprintf(d.w, "Port:       %s/%s (%s): %s; endpoints: %d used, %d ready, %d in all\n", name, p.Protocol, p.Family, p.State, p.Used, p.Ready, p.All)
		}
	}
}

func (d *description) refused(ctx context.Context, client *ask.Client, s *ask.Service) {
	list, err := client.Refused(ctx, ask.Choice{Namespace: s.Namespace})
	list = slices.DeleteFunc(list, func(r ask.RefusedPort) bool { return r.Name != s.Name })
	if err == nil && len(list) == 0 {
		return
	}
	d.section("What the kernel refuses", err, func() error {
		for i := range list {
			r := &list[i]
			if err := d.line("port %s (%s), since %s, tried again at %s: %s", cmp.Or(r.Port, "without a name"), r.Family, clock(r.Since), clock(r.NextTry), r.Why); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *description) connections(ctx context.Context, client *ask.Client, s *ask.Service) {
	list, err := client.Connections(ctx, ask.Choice{Namespace: s.Namespace, Name: s.Name})
	d.section("Open connections", err, func() error {
		if len(list) == 0 {
			return d.line("none")
		}
		rows := [][]string{{"  ENDPOINT", "OPEN", "FRONTEND", ""}}
		for i := range list {
			c := &list[i]
			note := ""
			if !c.Used {
				note = "gets no new connections"
			}
			rows = append(rows, []string{"  " + c.Endpoint, fmt.Sprint(c.Open), c.Frontend, note})
		}
		var widths []int
		return writeColumns(d.w, rows, &widths)
	})
}

func (d *description) changes(ctx context.Context, client *ask.Client, s *ask.Service) {
	list, err := client.Transactions(ctx, 0)
	name := s.Namespace + "/" + s.Name
	list = slices.DeleteFunc(list, func(t ask.Transaction) bool {
		return !slices.ContainsFunc(t.Ports, func(w ask.Written) bool { return w.Namespace+"/"+w.Name == name })
	})
	const most = 10
	list = list[max(0, len(list)-most):]
	d.section("Last changes", err, func() error {
		if len(list) == 0 {
			return d.line("none since the start")
		}
		return writeHistory(d.w, list, name)
	})
}

// events writes the Service's Events, if an API server tells.
func (d *description) events(ctx context.Context, o *describeOptions, s *ask.Service) {
	list, err := o.eventsOf(ctx, s.Namespace, s.Name)
	d.section("Events", err, func() error {
		if len(list) == 0 {
			return d.line("none")
		}
		for i := range list {
			e := &list[i]
			if err := d.line("%s  %s  %s: %s", clock(eventTime(e)), printable.Word(e.Type), printable.Word(e.Reason), printable.Line(e.Note)); err != nil {
				return err
			}
		}
		return nil
	})
}

// eventTime returns when an Event happened last.
func eventTime(e *eventsv1.Event) time.Time {
	if e.Series != nil {
		return e.Series.LastObservedTime.Time
	}
	if !e.DeprecatedLastTimestamp.IsZero() {
		return e.DeprecatedLastTimestamp.Time
	}
	return e.EventTime.Time
}

// eventsOf asks an API server for a Service's Events: the last ten, the newest last.
func (o *describeOptions) eventsOf(ctx context.Context, namespace, name string) ([]eventsv1.Event, error) {
	if !o.given() {
		theirs := wantOptions{source: o.source}
		if process, _ := theirs.runningHere(pflag.NewFlagSet("", pflag.ContinueOnError), "/"); process != nil {
			if options, _, err := optionsOf(process); err == nil && options.source.manifests == "" {
				options.source.version, options.source.userConfig = o.source.version, o.source.userConfig
				o.wantOptions = *options
			}
		}
	}
	client, err := o.wantOptions.client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	const asked, most = 500, 10
	list, err := client.Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "regarding.kind=Service,regarding.name=" + name, Limit: asked})
	if err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(list.Items, func(e eventsv1.Event) bool { return e.Regarding.Kind != "Service" || e.Regarding.Name != name })
	slices.SortFunc(out, func(a, b eventsv1.Event) int { return eventTime(&a).Compare(eventTime(&b)) })
	return out[max(0, len(out)-most):], nil
}
