// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/story"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

type traceOptions struct {
	worldOptions
	fromAddr, to, at, protocol string
	output                     string
	duration                   time.Duration
	showRules                  bool
}

func traceCommand(version string) *cobra.Command {
	o := traceOptions{worldOptions: newWorldOptions(version)}
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Follow new connections through the rules, live",
		Long: `Follow new connections to Services through this node's nftables and tell a story of
each: which Service it is, which endpoint was chosen, whether it is masqueraded, and what
came of it: answered, refused by the endpoint, no answer within a second, no route, or
refused or dropped by which rule or policy, those of other programs included. It changes
nothing for packets. The rules that choose what is traced go when this command ends,
however it ends.

Names come from the nftproxy that runs here, which is asked at its socket, or from the
source that is given or that it has; without one, from the kernel, which knows those
Services that have a chain of their own.`,
		Example: `  nftproxy trace --to 10.96.0.10:80 --for 10s
  nftproxy trace --from 10.244.1.7 --proto udp --for 10s
  nftproxy trace --to default/web -o json --for 10s
  nftproxy trace --manifests /etc/nftproxy/services --for 10s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), nil, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	o.add(fs)
	fs.StringVar(&o.fromAddr, "from", "", "only connections from this `address` or CIDR")
	fs.StringVar(&o.to, "to", "", "only connections to this `target`: an address, a CIDR, an address and port, or a Service's NAMESPACE/NAME")
	fs.StringVar(&o.at, "at", "", "of the Service of --to, only connections to this `address` and port of it")
	fs.StringVar(&o.protocol, "proto", "", "only connections of this `protocol`: tcp, udp or sctp")
	fs.DurationVar(&o.duration, "for", 0, "end after this `time` (default: at Ctrl-C)")
	fs.BoolVar(&o.showRules, "rules", false, "show the chains that connections meet, too, those of other programs included")
	fs.StringVarP(&o.output, "output", "o", "text", "`format`: text or json, an object for each line")
	completeWith(cmd, "output", "text", "json")
	completeWith(cmd, "proto", "tcp", "udp", "sctp")
	return untilUnheard(askingCommand(cmd, &o.wantOptions, func(cmd *cobra.Command, _ []string) (bool, error) {
		client, err := o.runsHere(cmd)
		if client == nil || err != nil {
			return false, err
		}
		return true, o.run(cmd.Context(), client, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}))
}

// run asks an nftproxy for the names of Services; nil: another source has them.
func (o *traceOptions) run(ctx context.Context, client *ask.Client, stdout, stderr io.Writer) error {
	if o.duration < 0 {
		return fmt.Errorf("--for: %s is below 0", o.duration)
	}
	if err := textOrJSON(o.output); err != nil {
		return err
	}
	filter, service, err := o.filter(client != nil)
	if err != nil {
		return err
	}
	config, err := o.proxierConfig()
	if err != nil {
		return err
	}
	if err = hasTables(config.Rules.Table); err != nil {
		return fmt.Errorf("there is nothing to trace: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	names, err := o.namesFor(ctx, client, service, stderr)
	if err != nil {
		return err
	}
	k, err := openTraced(filter)
	if err != nil {
		return err
	}
	defer k.close()
	if o.duration > 0 {
		ctx, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}
	if isTerminal(stderr) {
		fmt.Fprintln(stderr, "tracing new connections; Ctrl-C ends it")
	}
	w := storyWriter{teller: k.teller(config.Rules.Table, names.at), out: stdout, colours: coloursFor(stdout), showRules: o.showRules, json: o.output == "json", service: service}
	if err := k.follow(ctx, w.write); err != nil {
		return err
	}
	return w.err
}

// filter reads what is to be traced. A Service's connections are chosen by its name, as its addresses may change. asked: an nftproxy
// knows the names.
func (o *traceOptions) filter(asked bool) (f wire.TraceFilter, service string, err error) {
	if o.protocol != "" {
		if f.Protocol, err = rules.ParseProtocol(o.protocol); err != nil {
			return f, "", fmt.Errorf("--proto: %w", err)
		}
	}
	if f.From, err = parseRange(o.fromAddr); err != nil {
		return f, "", fmt.Errorf("--from: %w", err)
	}
	if at, aerr := netip.ParseAddrPort(o.to); aerr == nil {
		err = onlyTo(&f, at)
		return f, "", cmp.Or(err, o.noAt())
	}
	if f.To, err = parseRange(o.to); err == nil {
		return f, "", o.noAt()
	}
	if _, _, serr := parseService(o.to); serr != nil {
		return f, "", fmt.Errorf("--to: %w, nor a Service's NAMESPACE/NAME", err)
	}
	if o.at != "" {
		at, aerr := netip.ParseAddrPort(o.at)
		if aerr != nil {
			return f, "", fmt.Errorf("--at: %q is not ADDRESS:PORT", o.at)
		}
		if err = onlyTo(&f, at); err != nil {
			return f, "", err
		}
	}
	if asked {
		return f, o.to, nil
	}
	if o.namesFromKernel(); o.kernel {
		return f, "", fmt.Errorf("--to: %s: the kernel alone does not know the names of all Services: give --manifests, --kubeconfig or an address", printable.Line(o.to))
	}
	return f, o.to, nil
}

// onlyTo has a filter choose connections to an address and port.
func onlyTo(f *wire.TraceFilter, at netip.AddrPort) (err error) {
	f.ToPort = at.Port()
	f.To, err = at.Addr().Unmap().Prefix(at.Addr().Unmap().BitLen())
	return err
}

// noAt says that --at is about a Service.
func (o *traceOptions) noAt() error {
	if o.at != "" {
		return errors.New("--at: it goes with a Service in --to")
	}
	return nil
}

// parseRange reads an address or a CIDR; nothing is the zero value.
func parseRange(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().Prefix(a.Unmap().BitLen())
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is neither an address nor a CIDR", s)
	}
	return p.Masked(), nil
}

// storyWriter writes stories of connections to Services.
type storyWriter struct {
	*teller
	out       io.Writer
	colours   colours
	showRules bool
	json      bool
	service   string // NAMESPACE/NAME; empty: all
	err       error  // of the output
}

func (w *storyWriter) write(s *story.Story) {
	name, served := w.nameAt(rules.FrontendAt(s.Sent.Dst, s.Sent.Protocol))
	if w.err != nil || !w.ours(s) || w.service != "" && (!served || name.Namespace+"/"+name.Name != w.service) {
		return
	}
	if w.json {
		var line []byte
		if line, w.err = json.Marshal(w.line(s, w.showRules)); w.err == nil {
			_, w.err = w.out.Write(append(printable.JSON(line), '\n'))
		}
		return
	}
	_, w.err = fmt.Fprintf(w.out, "%s  %s -> %s/%s  %s: %s\n", s.Began.Format("15:04:05.000"), s.Sent.Src, s.Sent.Dst, s.Sent.Protocol, w.colours.bold(nameText(name, served)), w.text(s, w.colours))
	if w.showRules && w.err == nil {
		_, w.err = fmt.Fprintf(w.out, "    %s\n", chainsText(s, w.table))
	}
}

// chainsText lists the chains that a connection met: ours by their names, others with their tables.
func chainsText(s *story.Story, table string) string {
	var out []string
	for _, step := range s.Steps {
		if step.Table == table {
			out = append(out, printable.Word(step.Chain))
		} else {
			out = append(out, step.String())
		}
	}
	return strings.Join(out, " > ")
}
