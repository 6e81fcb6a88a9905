// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/inspect"
	"github.com/nftproxy/nftproxy/rules/wire"
)

type traceOptions struct {
	worldOptions
	fromAddr, to, protocol string
	duration               time.Duration
	showRules              bool
}

func traceCommand(version string) *cobra.Command {
	o := traceOptions{worldOptions: newWorldOptions(version)}
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Follow new connections through the rules, live",
		Long: `Follow new connections to Services through this node's rules and tell a story of each:
which Service it is, which endpoint was chosen, whether it is masqueraded, or why it
is refused or dropped. It changes nothing for packets. The rule that chooses what is
traced goes when this command ends, however it ends.

Names come from the source that is given or that the nftproxy which runs here has;
without one, from the kernel, which knows those Services that have a chain of their own.`,
		Example: `  nftproxy trace --to 10.96.0.10:80 --for 10s
  nftproxy trace --from 10.244.1.7 --proto udp --for 10s
  nftproxy trace --manifests /etc/nftproxy/services --for 10s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	o.add(fs)
	fs.StringVar(&o.fromAddr, "from", "", "only connections from this `address` or CIDR")
	fs.StringVar(&o.to, "to", "", "only connections to this `address`, CIDR, or address and port")
	fs.StringVar(&o.protocol, "proto", "", "only connections of this `protocol`: tcp, udp or sctp")
	fs.DurationVar(&o.duration, "for", 0, "end after this `time` (default: at Ctrl-C)")
	fs.BoolVar(&o.showRules, "rules", false, "show the chains that connections meet, too")
	completeWith(cmd, "proto", "tcp", "udp", "sctp")
	return lookingCommand(cmd, &o.wantOptions)
}

func (o *traceOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	filter, err := o.filter()
	if err != nil {
		return err
	}
	o.namesFromKernel()
	world, _, err := o.world(ctx, stderr)
	if err != nil {
		return err
	}
	if world.Have == nil {
		return fmt.Errorf("there is nothing to trace: %s", world.Problem)
	}
	flows, err := conntrack.Open()
	if err != nil {
		return err
	}
	defer func() { _ = flows.Close() }()
	t, err := inspect.StartTrace(filter)
	if err != nil {
		return err
	}
	defer func() { _ = t.Close() }()
	if o.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}
	if isTerminal(stderr) {
		fmt.Fprintln(stderr, "tracing new connections; Ctrl-C ends it")
	}
	s := stories{world: world, flows: flows, table: world.Config.Table, open: map[uint32]*story{}, out: stdout, colours: coloursFor(stdout), showRules: o.showRules}
	if err := t.Next(ctx, s.add, func() { s.tell(ctx, false) }); err != nil {
		return err
	}
	s.tell(context.WithoutCancel(ctx), true)
	return nil
}

// filter reads what is to be traced.
func (o *traceOptions) filter() (wire.TraceFilter, error) {
	var f wire.TraceFilter
	var err error
	if o.protocol != "" {
		if f.Protocol, err = rules.ParseProtocol(o.protocol); err != nil {
			return f, fmt.Errorf("--proto: %w", err)
		}
	}
	if f.From, err = parseRange(o.fromAddr); err != nil {
		return f, fmt.Errorf("--from: %w", err)
	}
	if at, aerr := netip.ParseAddrPort(o.to); aerr == nil {
		f.ToPort = at.Port()
		f.To, err = at.Addr().Unmap().Prefix(at.Addr().Unmap().BitLen())
		return f, err
	}
	if f.To, err = parseRange(o.to); err != nil {
		return f, fmt.Errorf("--to: %w", err)
	}
	return f, nil
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

// story is what is known of one packet that begins a connection.
type story struct {
	protocol rules.Protocol
	src, dst netip.AddrPort
	chains   []string // of our table, in the order they were met
	dropped  string   // the chain that dropped it
	began    time.Time
}

// settled is when nothing more comes of a packet.
const settled = 20 * time.Millisecond

// stories gathers events and tells of packets that met our rules.
type stories struct {
	world     *explain.World
	flows     *conntrack.Conn
	table     string
	open      map[uint32]*story
	order     []uint32
	out       io.Writer
	colours   colours
	showRules bool
}

func (s *stories) add(e wire.TraceEvent) {
	st := s.open[e.ID]
	if st == nil {
		st = &story{began: time.Now()}
		s.open[e.ID] = st
		s.order = append(s.order, e.ID)
	}
	if !st.src.IsValid() && e.Src.IsValid() {
		st.protocol, st.src, st.dst = e.Protocol, e.Src, e.Dst
	}
	if e.Table != s.table {
		return
	}
	if !slices.Contains(st.chains, e.Chain) {
		st.chains = append(st.chains, e.Chain)
	}
	if e.Dropped {
		st.dropped = e.Chain
	}
}

// tell writes what began some time ago, and all if it is the end.
func (s *stories) tell(ctx context.Context, end bool) {
	n := 0
	for _, id := range s.order {
		st := s.open[id]
		if !end && time.Since(st.began) < settled {
			break
		}
		if len(st.chains) > 0 && st.src.IsValid() {
			s.write(ctx, st)
		}
		delete(s.open, id)
		n++
	}
	s.order = s.order[n:]
}

func (s *stories) write(ctx context.Context, st *story) {
	port := s.world.PortAt(rules.FrontendAt(st.dst, st.protocol))
	end, err := s.end(ctx, st)
	if port == nil && st.dropped == "" && end == "" && err == nil {
		return // not to a Service
	}
	if err != nil {
		end = printable.Error(err)
	}
	fmt.Fprintf(s.out, "%s  %s -> %s/%s  %s: %s\n", time.Now().Format("15:04:05.000"), st.src, st.dst, st.protocol, s.colours.bold(serviceText(port)), cmp.Or(end, "sent on unchanged"))
	if s.showRules {
		fmt.Fprintf(s.out, "    %s\n", chainsText(st.chains))
	}
}

func chainsText(chains []string) string {
	var out []string
	for _, c := range chains {
		out = append(out, printable.Word(c))
	}
	return strings.Join(out, " > ")
}

// serviceText names the service port, as far as it is known.
func serviceText(p *proxier.Port) string {
	switch {
	case p == nil:
		return "no service port"
	case p.Name.Name == "":
		return "a Service"
	}
	return p.Name.String()
}

// end says what became of a packet; nothing if it went on unchanged.
func (s *stories) end(ctx context.Context, st *story) (string, error) {
	if st.dropped != "" {
		return s.colours.red(whyDropped(st.dropped)), nil
	}
	flow, ok, err := s.flows.Get(ctx, st.protocol, conntrack.Tuple{Src: st.src, Dst: st.dst})
	if err != nil || !ok || flow.Reply.Src == st.dst {
		return "", err
	}
	if slices.Contains(st.chains, rules.ChainFailover.Chain()) {
		return s.colours.red("sent again, without an answer from endpoint " + flow.Reply.Src.String()), nil
	}
	text := "to endpoint " + s.colours.green(flow.Reply.Src.String())
	if silent, err := silentEndpoints(s.table); err == nil && slices.Contains(silent, flow.Reply.Src) {
		text += " (failover tries whether it answers)"
	}
	if flow.Reply.Dst.Addr() != st.src.Addr() {
		return text + ", masqueraded as " + flow.Reply.Dst.Addr().String(), nil
	}
	return text + ", from the client's own address", nil
}

// whyDropped says why a chain ends packets.
func whyDropped(chain string) string {
	switch rules.ParseChainID(chain).Role {
	case rules.ChainNoEndpoints:
		return "refused: " + reason.NoEndpoint.Brief()
	case rules.ChainNoLocalEndpoints:
		return "dropped: " + reason.NoLocalEndpoint.Brief()
	case rules.ChainFirewall:
		return "dropped: " + reason.NotInSourceRanges.Brief()
	case rules.ChainPostrouting:
		return "dropped: " + reason.NoSuchClusterIP.Brief()
	}
	return "dropped " + reason.UnknownChain.Text(printable.Word(chain))
}
