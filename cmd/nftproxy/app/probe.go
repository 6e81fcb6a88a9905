// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
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
	// Direct is what came of a connection straight to the endpoint; empty: none was made.
	Direct string `json:"direct,omitempty"`
}

// probePatience is how long a connection may take: longer than stories, which end first.
const probePatience = story.Patience + 500*time.Millisecond

// runProbe makes a connection to the first frontend that is explained, and follows it through this node's nftables. Its own table
// goes with the socket that made it. netns is the network namespace in which the client is; empty: this one.
func runProbe(ctx context.Context, w *explain.World, e *explain.Explanation, netns string) (*probe, error) {
	to, err := probed(e)
	if err != nil {
		return nil, err
	}
	source, dialer, err := reserve(netns, to)
	if err != nil {
		return nil, err
	}
	at := to.At()
	t, err := openTraced(wire.TraceFilter{To: netip.PrefixFrom(at.Addr(), at.Addr().BitLen()), ToPort: at.Port(), FromPort: source, Protocol: to.Protocol})
	if err != nil {
		return nil, err
	}
	defer t.close()
	ctx, cancel := context.WithTimeout(ctx, 3*probePatience)
	defer cancel()
	client := make(chan error, 1)
	go func() { client <- dialer(ctx, at, source) }()
	var found *story.Story
	if err := t.follow(ctx, func(s *story.Story) {
		if found == nil && s.Sent.Src.Port() == source {
			found = s
			cancel()
		}
	}); err != nil {
		return nil, err
	}
	out := &probe{To: at.String(), Protocol: to.Protocol.String(), Client: outcomeText(<-client), Steps: []string{}}
	if found == nil {
		out.Outcome = story.Unknown
		out.Verdict = "this node's nftables saw no packet of it: does the client's way lead over this node?"
		return out, nil
	}
	out.From, out.Verdict = found.Sent.Src.String(), t.teller(w.Config.Table, worldNames{w}.at).text(found, colours{})
	out.Outcome = found.Outcome
	for _, step := range found.Steps {
		out.Steps = append(out.Steps, step.String())
	}
	if found.Rewritten() && to.Protocol == rules.TCP {
		direct, _ := dialIn(netns)
		straight, cancel := context.WithTimeout(context.Background(), probePatience)
		defer cancel()
		out.Direct = found.Now.Dst.String() + ": " + outcomeText(direct(straight, found.Now.Dst, 0, to.Protocol))
	}
	return out, nil
}

// probed returns the frontend that a probe goes to: the first that can be reached.
func probed(e *explain.Explanation) (rules.Frontend, error) {
	for _, p := range e.Ports {
		protocol, err := rules.ParseProtocol(p.Protocol)
		if err != nil || protocol == rules.SCTP {
			continue
		}
		for _, f := range p.Frontends {
			if at, err := netip.ParseAddrPort(f.Address); err == nil {
				return rules.FrontendAt(at, protocol), nil
			}
		}
	}
	return rules.Frontend{}, fmt.Errorf("--probe: %s has no address that TCP or UDP can be sent to", e.Target)
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
	text := fmt.Sprintf("\n%s %s -> %s/%s: %s\n", c.bold("One connection"), p.From, p.To, p.Protocol, p.Client)
	for _, s := range p.Steps {
		text += "  met " + s + "\n"
	}
	if p.Direct != "" {
		text += "  straight to the endpoint " + p.Direct + "\n"
	}
	return text + c.bold("Verdict: ") + p.Verdict + "\n"
}
