// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// Style marks words; a nil function leaves them as they are. Rules shows the rules
// that connections meet.
type Style struct {
	Title, Good, Bad func(string) string
	Rules            bool
}

func marked(mark func(string) string, text string) string {
	if mark == nil {
		return text
	}
	return mark(text)
}

// WriteText writes an explanation in plain words.
func (e *Explanation) WriteText(w io.Writer, style Style) error {
	var b strings.Builder
	for i := range e.Ports {
		e.Ports[i].write(&b, e.Node, style)
	}
	for _, note := range e.Notes {
		b.WriteString(marked(style.Bad, "Note") + ": " + note + "\n")
	}
	e.Kernel.write(&b, style)
	_, err := io.WriteString(w, b.String())
	return err
}

func (p *Port) write(b *strings.Builder, n NodeView, style Style) {
	b.WriteString(marked(style.Title, p.title()) + "\n")
	line := func(name, format string, args ...any) {
		fmt.Fprintf(b, "  %-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	if p.InternalPolicy != "" {
		policies := "internalTrafficPolicy " + p.InternalPolicy
		if p.ExternalPolicy != "" {
			policies += ", externalTrafficPolicy " + p.ExternalPolicy
		}
		policies += ", " + p.Scheduler
		if p.Failover {
			policies += ", failover"
		}
		line("policies", "%s", policies)
	}
	if p.Table != "" {
		line("table", "%s", p.Table)
	}
	if p.Affinity > 0 {
		line("affinity", "ClientIP: a client stays with its endpoint for %s after its last new connection", seconds(uint64(p.Affinity)))
	}
	for i, pin := range p.Pinned {
		const most = 5
		if i == most {
			line("", "and %d more clients stay with theirs", len(p.Pinned)-most)
			break
		}
		line("", "%s stays with %s, for %s more", pin.Client, pin.Endpoint, seconds(pin.Seconds))
	}
	if len(p.SourceRanges) > 0 {
		who := "only"
		if p.DeniesRanges {
			who = "all but"
		}
		line("sources", "load balancer addresses: %s %s", who, strings.Join(p.SourceRanges, ", "))
	}
	if p.Protocol == rules.SCTP.String() && len(p.Endpoints) > 0 {
		line("SCTP", "a client is to bind to one address: its endpoint tries the others that it names, past this Service, and so the association ends")
	}
	for _, lost := range p.Lost {
		line("conflict", "not served at %s", lost)
	}
	p.writeEndpoints(b, n, style)
	for i := range p.Frontends {
		p.Frontends[i].write(b, style)
	}
	if p.MoreFrontends > 0 {
		fmt.Fprintf(b, "  and %d more addresses: explain each as ADDRESS:PORT/PROTOCOL\n", p.MoreFrontends)
	}
	b.WriteString("\n")
}

// seconds writes a time without zeros at its end: 3h, not 3h0m0s.
func seconds(n uint64) string {
	text := (time.Duration(n) * time.Second).String() //nolint:gosec // a time-out of the kernel, in seconds: it fits
	for _, zero := range []string{"m0s", "h0m"} {
		if short, ok := strings.CutSuffix(text, zero); ok {
			text = short + zero[:1]
		}
	}
	return text
}

// title names the service port.
func (p *Port) title() string {
	family := map[string]string{"ip": "IPv4", "ip6": "IPv6"}[p.Family]
	if p.Service == "" {
		return fmt.Sprintf("A service port over %s, %s; the kernel keeps no name of it", p.Protocol, family)
	}
	text := "Service " + p.Service + ", "
	if p.Port != "" {
		text += "port " + p.Port + ", "
	}
	return fmt.Sprintf("%s%d/%s, %s", text, p.Number, p.Protocol, family)
}

func (p *Port) writeEndpoints(b *strings.Builder, n NodeView, style Style) {
	if p.InternalPolicy == "" {
		return
	}
	used := 0
	for _, e := range p.Endpoints {
		if e.Cluster || e.Local {
			used++
		}
	}
	fmt.Fprintf(b, "  %-10s %d, of which %d can get connections from node %s\n", "endpoints", len(p.Endpoints), used, nodeText(n))
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, e := range p.Endpoints {
		use := "yes"
		if !e.Cluster && !e.Local {
			use = "no"
		}
		mark := style.Good
		if use == "no" {
			mark = style.Bad
		}
		fmt.Fprintf(t, "    %s\t%s\t%s\t%s\n", e.Address, e.where(), marked(mark, use), e.because())
	}
	_ = t.Flush()
	trimRight(b)
}

// trimRight takes blanks from the ends of lines.
func trimRight(b *strings.Builder) {
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	b.Reset()
	b.WriteString(strings.Join(lines, "\n"))
}

func nodeText(n NodeView) string {
	if n.Zone != "" {
		return n.Name + " in zone " + n.Zone
	}
	return n.Name
}

// because says why an endpoint gets no connections, or how many.
func (e *Endpoint) because() string {
	if e.Why != "" && e.Share != "" {
		return e.Share + "; " + e.Why
	}
	return e.Share + e.Why
}

// where says where an endpoint is.
func (e *Endpoint) where() string {
	var words []string
	if e.Pod != "" {
		words = append(words, "pod "+e.Pod)
	}
	switch {
	case e.Here:
		words = append(words, "on this node")
	case e.Node != "":
		words = append(words, "on node "+e.Node)
	default:
		words = append(words, "on a node that is not known")
	}
	if e.Zone != "" {
		words = append(words, "in zone "+e.Zone)
	}
	return strings.Join(words, " ")
}

// write says what becomes of connections to a frontend: in one line where it is the
// same for several clients.
func (f *FrontendView) write(b *strings.Builder, style Style) {
	fmt.Fprintf(b, "  %s %s\n", f.Kind, f.Address)
	if f.Problem != "" {
		fmt.Fprintf(b, "    %s\n", f.Problem)
	}
	var texts []string
	from := map[string][]string{}
	for _, client := range f.Clients {
		text := client.text(style)
		if from[text] == nil {
			texts = append(texts, text)
		}
		from[text] = append(from[text], client.From)
	}
	for _, text := range texts {
		fmt.Fprintf(b, "    from %s: %s\n", strings.Join(from[text], ", "), text)
	}
}

// text says what a client sees and why.
func (c *ClientView) text(style Style) string {
	var text string
	switch c.Outcome {
	case Answer:
		text = marked(style.Good, "goes to") + " " + c.targets()
	case Refused:
		text = marked(style.Bad, "refused") + " at once"
		if c.Unheard {
			text = marked(style.Bad, "refused") + " by an ICMPv6 message that SCTP takes no notice of: clients go on trying"
		}
	case Timeout:
		text = marked(style.Bad, "a timeout") + ", since the connection is dropped"
	default:
		text = marked(style.Bad, "left alone")
	}
	for _, why := range c.Why {
		text += "\n      - " + why
	}
	if style.Rules {
		for _, rule := range c.Rules {
			text += "\n      | " + rule
		}
	}
	return text
}

// targets names the endpoints that answer, and whom they see.
func (c *ClientView) targets() string {
	var all []string
	masqueraded := 0
	for _, to := range c.To {
		all = append(all, to.Address)
		if to.Masqueraded {
			masqueraded++
		}
	}
	const most = 4
	text, see := all[0], "sees"
	if n := len(all) - 1; n >= most {
		text, see = fmt.Sprintf("%s or one of %d others", strings.Join(all[:most-1], ", "), len(all)-most+1), "see"
	} else if n > 0 {
		text, see = strings.Join(all[:n], ", ")+" or "+all[n], "see"
	}
	switch masqueraded {
	case 0:
		if c.MayBeMasqueraded {
			return fmt.Sprintf("%s, which %s this node's address or the client's own: that depends on nftproxy's --cluster-cidr, which is not known here", text, see)
		}
		return fmt.Sprintf("%s, which %s the client's own address", text, see)
	case len(c.To):
		return fmt.Sprintf("%s, which %s this node's address", text, see)
	}
	i := slices.IndexFunc(c.To, func(to To) bool { return to.Masqueraded })
	return fmt.Sprintf("%s, which see the client's own address, but %s this node's", text, c.To[i].Address)
}

func (k *Kernel) write(b *strings.Builder, style Style) {
	switch {
	case k.Holds == nil:
		fmt.Fprintf(b, "The kernel was not compared: %s\n", k.Problem)
	case *k.Holds:
		b.WriteString("The kernel " + marked(style.Good, "holds just that") + ".\n")
	default:
		b.WriteString("The kernel " + marked(style.Bad, "does not hold just that") + ":\n")
		for _, d := range k.Differences {
			fmt.Fprintf(b, "  %-9s  %-3s  %s\n", d.Kind, d.Family, d.Object)
		}
		b.WriteString(OptionsHint(k.Differences))
	}
}

// OptionsHint returns a line about options where rules differ that hold for all
// services; else nothing.
func OptionsHint(list []rules.Difference) string {
	for _, d := range list {
		switch d.Object {
		case "chain " + rules.ChainServices.Chain(), "chain " + rules.ChainNodePorts.Chain(), "chain " + rules.ChainPostrouting.Chain():
			return "Rules for all services differ: were the options those of 'nftproxy run', such as --cluster-cidr?\n"
		}
	}
	return ""
}
