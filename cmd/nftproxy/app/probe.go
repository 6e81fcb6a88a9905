// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/story"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// probe is what became of one real connection. Texts are printable.
type probe struct {
	From     string `json:"from"`
	To       string `json:"to"`
	Protocol string `json:"protocol"`
	// Client is what the client saw, Verdict what became of the connection.
	Client  string        `json:"client"`
	Verdict string        `json:"verdict"`
	Outcome story.Outcome `json:"outcome"`
	// Steps are the chains of all programs that it met.
	Steps []string `json:"steps"`
	// Endpoint is where it was sent, of a connection that a pod has made itself.
	Endpoint string `json:"endpoint,omitempty"`
	// Direct is what came of a connection straight to the endpoint; empty: none was made.
	Direct string `json:"direct,omitempty"`
}

// probePatience is how long a connection may take: longer than stories, which end first.
const probePatience = story.Patience + 500*time.Millisecond

// prober makes a connection and follows it through this node's nftables.
type prober struct {
	table string
	names serviceNames
	netns string // in which the client is; empty: this one
	// pod are the addresses of a pod that makes the connection itself; none: one is made here. waiting is told once it may.
	pod     []netip.Addr
	waiting func(from netip.Addr, to rules.Frontend)
}

// podPatience is how long a pod may take to make its connection.
const podPatience = 30 * time.Second

// run has a connection made to the first frontend that is explained. Its own table goes with the socket that made it.
func (p *prober) run(ctx context.Context, e *explain.Explanation) (*probe, error) {
	to, err := probed(e, len(p.pod) > 0)
	if err != nil {
		return nil, err
	}
	at := to.At()
	filter := wire.TraceFilter{To: netip.PrefixFrom(at.Addr(), at.Addr().BitLen()), ToPort: at.Port(), Protocol: to.Protocol}
	if len(p.pod) > 0 {
		return p.await(ctx, to, filter)
	}
	source, dialer, err := reserve(p.netns, to)
	if err != nil {
		return nil, err
	}
	filter.FromPort = source
	t, err := openTraced(filter)
	if err != nil {
		return nil, err
	}
	defer t.close()
	ctx, cancel := context.WithTimeout(ctx, 3*probePatience)
	defer cancel()
	client := make(chan error, 1)
	go func() { client <- dialer(ctx, at, source) }()
	found, err := t.first(ctx, func(s *story.Story) bool { return s.Sent.Src.Port() == source })
	if err != nil {
		return nil, err
	}
	out := p.tell(t, to, found)
	out.Client = outcomeText(<-client)
	if found == nil {
		out.Verdict = "this node's nftables saw no packet of it: does the client's way lead over this node?"
	} else if found.Rewritten() && to.Protocol == rules.TCP {
		direct, _ := dialIn(p.netns)
		straight, cancel := context.WithTimeout(context.Background(), probePatience)
		defer cancel()
		out.Direct = found.Now.Dst.String() + ": " + outcomeText(direct(straight, found.Now.Dst, 0, to.Protocol))
	}
	return out, nil
}

// await follows a connection that a pod makes.
func (p *prober) await(ctx context.Context, to rules.Frontend, filter wire.TraceFilter) (*probe, error) {
	family := rules.FamilyOf(to.Addr)
	i := slices.IndexFunc(p.pod, func(a netip.Addr) bool { return rules.FamilyOf(a) == family })
	if i < 0 {
		return nil, fmt.Errorf("the pod has no address of the family of %s", to.At())
	}
	filter.From = netip.PrefixFrom(p.pod[i], p.pod[i].BitLen())
	t, err := openTraced(filter)
	if err != nil {
		return nil, err
	}
	defer t.close()
	ctx, cancel := context.WithTimeout(ctx, podPatience)
	defer cancel()
	p.waiting(p.pod[i], to)
	found, err := t.first(ctx, func(*story.Story) bool { return true })
	if err != nil {
		return nil, err
	}
	out := p.tell(t, to, found)
	if found == nil {
		out.From = p.pod[i].String()
		out.Verdict = fmt.Sprintf("this node's nftables saw no connection of it within %s", podPatience)
	} else {
		out.Endpoint = endpointOf(found)
	}
	return out, nil
}

// endpointOf returns where a connection was sent; empty: its destination was not rewritten.
func endpointOf(s *story.Story) string {
	if !s.Rewritten() {
		return ""
	}
	return s.Now.Dst.String()
}

// first follows connections until there is one that is wanted; nil: there was none before ctx ended.
func (t *traced) first(ctx context.Context, wanted func(*story.Story) bool) (found *story.Story, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = t.follow(ctx, func(s *story.Story) {
		if found == nil && wanted(s) {
			found = s
			cancel()
		}
	})
	return found, err
}

// tell tells a connection's story.
func (p *prober) tell(t *traced, to rules.Frontend, found *story.Story) *probe {
	out := &probe{To: to.At().String(), Protocol: to.Protocol.String(), Steps: []string{}, Outcome: story.Unknown}
	if found == nil {
		return out
	}
	out.From, out.Verdict = found.Sent.Src.String(), t.teller(p.table, p.names.at).text(found, colours{})
	out.Outcome = found.Outcome
	for _, step := range found.Steps {
		out.Steps = append(out.Steps, step.String())
	}
	return out
}

// probed returns the frontend that a probe goes to: the first that can be reached; onlyTCP: over TCP.
func probed(e *explain.Explanation, onlyTCP bool) (rules.Frontend, error) {
	for _, p := range e.Ports {
		protocol, err := rules.ParseProtocol(p.Protocol)
		if err != nil || protocol == rules.SCTP || onlyTCP && protocol != rules.TCP {
			continue
		}
		for _, f := range p.Frontends {
			if at, err := netip.ParseAddrPort(f.Address); err == nil {
				return rules.FrontendAt(at, protocol), nil
			}
		}
	}
	what := "TCP or UDP"
	if onlyTCP {
		what = "TCP"
	}
	return rules.Frontend{}, fmt.Errorf("--probe: %s has no address that %s can be sent to", e.Target, what)
}

// reserve finds a port of the client's for a connection to a frontend, and returns what connects from it.
func reserve(netns string, to rules.Frontend) (port uint16, dial func(context.Context, netip.AddrPort, uint16) error, err error) {
	in, err := dialIn(netns)
	if err != nil {
		return 0, nil, err
	}
	err = inNetns(netns, func() error {
		c, failed := net.ListenUDP("udp", &net.UDPAddr{})
		if failed != nil {
			return fmt.Errorf("find a free port: %w", failed)
		}
		port = c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		return c.Close()
	})
	return port, func(ctx context.Context, at netip.AddrPort, from uint16) error { return in(ctx, at, from, to.Protocol) }, err
}

// dialIn returns what connects in a network namespace, from a port if that is not 0. Of UDP it sends an empty datagram, and
// waits for an answer.
func dialIn(netns string) (func(ctx context.Context, at netip.AddrPort, from uint16, p rules.Protocol) error, error) {
	if err := inNetns(netns, func() error { return nil }); err != nil {
		return nil, err
	}
	return func(ctx context.Context, at netip.AddrPort, from uint16, p rules.Protocol) error {
		return inNetns(netns, func() error {
			d := net.Dialer{Timeout: probePatience, FallbackDelay: -1}
			if from != 0 && p == rules.TCP {
				d.LocalAddr = &net.TCPAddr{Port: int(from)}
			} else if from != 0 {
				d.LocalAddr = &net.UDPAddr{Port: int(from)}
			}
			c, err := d.DialContext(context.WithoutCancel(ctx), p.String(), at.String())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			if p == rules.TCP {
				return nil
			}
			if err = c.SetDeadline(time.Now().Add(probePatience)); err != nil {
				return err
			}
			if _, err = c.Write(nil); err != nil {
				return err
			}
			_, err = c.Read(make([]byte, 1))
			return err
		})
	}, nil
}

// outcomeText says what a client saw.
func outcomeText(err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return "connected"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = cmp.Or(op.Err, err)
	}
	return printable.Error(err)
}

// text returns a probe for people.
func (p *probe) text(c colours) string {
	text := fmt.Sprintf("\n%s %s -> %s/%s", c.bold("One connection"), p.From, p.To, p.Protocol)
	if p.Client != "" {
		text += ": " + p.Client
	}
	text += "\n"
	for _, s := range p.Steps {
		text += "  met " + s + "\n"
	}
	if p.Direct != "" {
		text += "  straight to the endpoint " + p.Direct + "\n"
	}
	return text + c.bold("Verdict: ") + p.Verdict + "\n"
}
