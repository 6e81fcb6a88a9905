// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
)

// listings are all that can be listed.
func listings() []listing {
	return []listing{
		{[]string{"services", "service", "svc"}, true, true, []string{"NAME", "PORT", "TYPE", "FRONTEND", "SCHEDULER", "POLICIES", "USED/READY/ALL", "STATE"},
			[]string{"FRONTENDS", "AFFINITY", "NEW/S", "NOTES"}, fetchServices},
		{[]string{"endpoints", "endpoint", "ep"}, true, true, []string{"SERVICE", "PORT", "ADDRESS", "POD", "NODE", "USED", "WHY"}, []string{"ZONE", "FAMILY"}, fetchEndpoints},
		{[]string{"conflicts", "conflict"}, false, true, []string{"SERVICE", "PORT", "FRONTEND", "SERVED", "WHY"}, []string{"FAMILY", "CODE"}, fetchConflicts},
		{[]string{"refused"}, false, true, []string{"SERVICE", "PORT", "SINCE", "NEXT TRY", "WHY"}, []string{"FAMILY"}, fetchRefused},
		{[]string{"connections", "connection", "conn"}, true, true, []string{"SERVICE", "PORT", "FRONTEND", "ENDPOINT", "OPEN", "USED"}, []string{"BYTES", "FAMILY"}, fetchConnections},
		{[]string{"affinity"}, true, true, []string{"SERVICE", "PORT", "CLIENT", "ENDPOINT", "FOR"}, []string{"POLICY", "FAMILY"}, fetchAffinity},
		{[]string{"transactions", "transaction", "tx"}, false, false, []string{"NUMBER", "AT", "TOOK", "DELAY", "PORTS", "WHAT"}, []string{"BY"}, fetchTransactions},
	}
}

// listingOf returns the listing of a name.
func listingOf(name string) (*listing, error) {
	var names, all []string
	for _, l := range listings() {
		if slices.Contains(l.names, name) {
			return &l, nil
		}
		names, all = append(names, l.names[0]), append(all, l.names...)
	}
	if m := meant(name, all); m != "" {
		return nil, fmt.Errorf("%q is nothing that can be listed: did you mean %s?", name, m)
	}
	return nil, fmt.Errorf("%q is nothing that can be listed: there are %s", name, strings.Join(names, ", "))
}

func fetchServices(ctx context.Context, c *ask.Client, of ask.Choice) ([]listItem, error) {
	var list []ask.Service
	var err error
	if of.Name != "" {
		list = make([]ask.Service, 1)
		list[0], err = c.Service(ctx, of.Namespace, of.Name)
	} else {
		list, err = c.Services(ctx, of)
	}
	if err != nil {
		return nil, err
	}
	out := make([]listItem, len(list))
	for i := range list {
		s := &list[i]
		out[i] = listItem{item: s, name: "service/" + s.Name, namespace: s.Namespace}
		for j := range s.Ports {
			out[i].rows = append(out[i].rows, serviceRow(s, &s.Ports[j]))
		}
	}
	return out, nil
}

// serviceRow are the columns of a service port.
func serviceRow(s *ask.Service, p *ask.Port) []string {
	policies := p.Internal
	if p.External != "" && p.External != p.Internal {
		policies += "," + p.External
	}
	frontends := p.Frontends
	const most = 2
	if more := len(frontends) - most; more > 0 {
		frontends = append(frontends[:most:most], fmt.Sprintf("+%d more", more))
	}
	port := p.Port
	if port == "" {
		port = strconv.Itoa(int(p.Number))
	}
	affinity := ""
	if p.Affinity > 0 {
		affinity = fmt.Sprintf("%ds", p.Affinity)
	}
	return []string{s.Name, port + "/" + p.Protocol, s.Type, strings.Join(frontends, ","), p.Scheduler, policies,
		fmt.Sprintf("%d/%d/%d", p.Used, p.Ready, p.All), string(p.State), strings.Join(p.Frontends, ","), affinity, "", strings.Join(s.Notes, "; ")}
}

func fetchEndpoints(ctx context.Context, c *ask.Client, of ask.Choice) ([]listItem, error) {
	list, err := c.Endpoints(ctx, of)
	out := make([]listItem, len(list))
	for i := range list {
		e := &list[i]
		used := "no"
		switch {
		case e.Cluster && e.Local, e.Cluster && e.Why == "":
			used = "yes"
		case e.Local && e.Why == "":
			used = "yes"
		case e.Cluster || e.Local:
			used = "partly"
		}
		port := e.Of.Port
		if port == "" {
			port = strconv.Itoa(int(e.Of.Number))
		}
		out[i] = listItem{e, "", e.Namespace, [][]string{{e.Name, port + "/" + e.Of.Protocol, e.Address, e.Pod, e.Node, used, e.Why, e.Zone, e.Of.Family}}}
	}
	return out, err
}

func fetchConflicts(ctx context.Context, c *ask.Client, of ask.Choice) ([]listItem, error) {
	list, err := c.Conflicts(ctx, of)
	out := make([]listItem, len(list))
	for i := range list {
		l := &list[i]
		out[i] = listItem{l, "", l.Namespace, [][]string{{l.Name, l.Port, l.Frontend, l.Holder, l.Why, l.Family, l.Code}}}
	}
	return out, err
}

func fetchRefused(ctx context.Context, c *ask.Client, of ask.Choice) ([]listItem, error) {
	list, err := c.Refused(ctx, of)
	out := make([]listItem, len(list))
	for i := range list {
		r := &list[i]
		out[i] = listItem{r, "", r.Namespace, [][]string{{r.Name, r.Port, clock(r.Since), clock(r.NextTry), r.Why, r.Family}}}
	}
	return out, err
}

func fetchTransactions(ctx context.Context, c *ask.Client, _ ask.Choice) ([]listItem, error) {
	list, err := c.Transactions(ctx, 0)
	out := make([]listItem, len(list))
	for i := range list {
		t := &list[i]
		delay := ""
		if t.Delay > 0 {
			delay = inMilliseconds(t.Delay)
		}
		out[i] = listItem{t, "", "", [][]string{{strconv.FormatUint(t.Number, 10), clock(t.At), inMilliseconds(t.Took), delay, strconv.Itoa(t.ServicePorts), transactionText(t), t.By}}}
	}
	return out, err
}

// clock writes a time, to the second, as this machine has it.
func clock(t time.Time) string { return t.Local().Format(time.DateTime) }

func inMilliseconds(ms float64) string { return strconv.FormatFloat(ms, 'f', 1, 64) + " ms" }

// transactionText says what a transaction did.
func transactionText(t *ask.Transaction) string {
	const most = 2
	var parts []string
	for i := range t.Ports {
		if i == most {
			break
		}
		p := &t.Ports[i]
		text := p.Namespace + "/" + p.Name
		if p.Port != "" {
			text += ":" + p.Port
		}
		text += someOf(" +", p.Came, p.CameCount) + someOf(" -", p.Went, p.WentCount)
		if p.CameCount+p.WentCount == 0 {
			text += " rewritten"
		}
		parts = append(parts, text)
	}
	if more := t.ServicePorts - len(parts); more > 0 && len(parts) > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	text := t.Why
	if len(parts) > 0 {
		text = strings.Join(parts, "; ")
	}
	if t.Repairs != "" {
		text += ": repaired " + t.Repairs
	}
	if t.Refused != "" {
		text += ": refused: " + t.Refused
	}
	return text
}

// someOf writes the first of a list, and how many more there are.
func someOf(sign string, list []string, n int) string {
	const most = 2
	var b strings.Builder
	for _, e := range list[:min(most, len(list))] {
		b.WriteString(sign + e)
	}
	if n > most {
		fmt.Fprintf(&b, "%s%d more", sign, n-most)
	}
	return b.String()
}
