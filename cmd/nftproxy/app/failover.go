// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/proxier/failover"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/inspect"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// failoverOptions say what becomes of connections without an answer.
type failoverOptions struct {
	on        bool // --failover
	threshold int
	share     int
}

// mostThreshold bounds what is kept of an endpoint.
const mostThreshold = 1000

func (o *failoverOptions) add(fs *pflag.FlagSet) {
	fs.BoolVar(&o.on, "failover", false, "free connections without an answer from their endpoint, and send no new ones where several had none; a Service's annotation "+cluster.FailoverAnnotation+" overrides it")
	fs.IntVar(&o.threshold, "failover-threshold", failover.Config{}.WithDefaults().Threshold, "`number` of connections within 5 s that an endpoint leaves unanswered, and none answered since they began, before it gets no new ones for a while")
	fs.IntVar(&o.share, "failover-share", rules.DefaultEjectedShare, "greatest `percentage` of a Service's endpoints that get no new connections because they do not answer; never the last one")
}

func (o *failoverOptions) validate() error {
	var errs []error
	if o.threshold < 1 || o.threshold > mostThreshold {
		errs = append(errs, fmt.Errorf("--failover-threshold: %d is not between 1 and %d", o.threshold, mostThreshold))
	}
	if o.share < 1 || o.share > 100 {
		errs = append(errs, fmt.Errorf("--failover-share: %d is not between 1 and 100", o.share))
	}
	return errors.Join(errs...)
}

// rescue is what failover uses of this node: sockets of its own, so that it waits for nobody and nobody for it.
type rescue struct {
	sets  *inspect.Inspector
	flows *conntrack.Conn
}

func openRescue() (*rescue, error) {
	sets, err := inspect.Open()
	if err != nil {
		return nil, err
	}
	flows, err := conntrack.Open()
	if err != nil {
		return nil, errors.Join(err, sets.Close())
	}
	return &rescue{sets, flows}, nil
}

func (r *rescue) close() { _ = errors.Join(r.flows.Close(), r.sets.Close()) }

// with returns what a proxier needs for failover; byService counts for each service port, too.
func (o *failoverOptions) with(r *rescue, byService bool) proxier.Failover {
	return proxier.Failover{Config: failover.Config{Threshold: o.threshold, Share: o.share}, Noted: r.sets, Flows: r.flows,
		Metrics: proxier.NewFailoverMetrics(byService)}
}

// useEjected takes those endpoints for ejected that this node's kernel says are: what nftproxy run has found out shows there.
func useEjected(table string, p *proxier.Proxier) {
	state, err := readEjected(table)
	if err != nil {
		return // who wants to compare reads the tables, too, and says why not
	}
	p.UseEjected(func(o rules.Owner) []rules.Ejected {
		if t := state.Tables[o.Family]; t != nil {
			return t.EjectedOf(o.ServicePortName)
		}
		return nil
	})
}

// readEjected reads this node's tables, if any endpoint is ejected.
func readEjected(table string) (rules.State, error) {
	list, err := silentEndpoints(table)
	if err != nil || len(list) == 0 {
		return rules.State{}, err
	}
	k, err := kernel.Open()
	if err != nil {
		return rules.State{}, err
	}
	defer func() { _ = k.Close() }()
	return k.Read(table)
}

// silentEndpoints returns the endpoints of any Service that are ejected on this node, sorted.
func silentEndpoints(table string) (out []netip.AddrPort, err error) {
	i, err := inspect.Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = i.Close() }()
	for _, f := range rules.Families {
		if err := i.Filled(table, f, rules.Silent, func(e rules.Element, _ rules.Lifetime) { out = append(out, e.To) }); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out), nil
}

// silentText says which endpoints are ejected on this node; nothing if none is.
func silentText(table string) string {
	const most = 5
	list, err := silentEndpoints(table)
	if err != nil || len(list) == 0 {
		return ""
	}
	var names []string
	for _, a := range list[:min(most, len(list))] {
		names = append(names, a.String())
	}
	if more := len(list) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return "Without new connections, as they do not answer from this node (failover): " + strings.Join(names, ", ") + "\n"
}
