// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
)

// mostShown is how many differences are written as text, and mostEndpoints how many endpoints of each.
const (
	mostShown     = 500
	mostEndpoints = 6
)

// WriteText writes what differs, and how much was compared.
func (r *Result) WriteText(out io.Writer) error {
	var b strings.Builder
	last := ""
	for i := range r.Differences[:min(mostShown, len(r.Differences))] {
		d := &r.Differences[i]
		title := d.Kind + " " + d.Frontend
		if d.Service != "" {
			title = d.Service + ", " + title
		}
		if title != last {
			fmt.Fprintln(&b, title)
			last = title
		}
		theirs, ours := d.KubeProxy.texts(&d.Nftproxy)
		fmt.Fprintf(&b, "  from %s\n    kube-proxy  %s\n    nftproxy    %s\n", strings.Join(d.From, ", "), theirs, ours)
	}
	if more := len(r.Differences) - mostShown; more > 0 {
		fmt.Fprintf(&b, "and %d more: -o json has all\n", more)
	}
	for _, note := range r.Notes {
		fmt.Fprintln(&b, "Note:", note)
	}
	what := fmt.Sprintf("frontends of %d Services, by kube-proxy's rules of mode %s", r.Services, r.Mode)
	if r.Differing == 0 {
		fmt.Fprintf(&b, "Nothing would change: %d %s\n", r.Frontends, what)
	} else {
		fmt.Fprintf(&b, "%d of %d %s would change\n", r.Differing, r.Frontends, what)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// texts says what becomes of connections by both. Where both have many endpoints it names those that only one has.
func (a *Answer) texts(other *Answer) (string, string) {
	ours, theirs := a.To, other.To
	many := len(ours) > mostEndpoints || len(theirs) > mostEndpoints
	if many && len(ours) > 0 && len(theirs) > 0 {
		return a.text(without(ours, theirs), true), other.text(without(theirs, ours), true)
	}
	return a.text(ours, false), other.text(theirs, false)
}

// without returns those of a list that are not in another.
func without(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(other, s) })
}

func (a *Answer) text(shown []string, only bool) string {
	var text string
	switch a.Outcome {
	case explain.Refused:
		return "refused at once"
	case explain.Timeout:
		return "dropped"
	case explain.Untouched:
		return "no rule: whatever listens there"
	}
	all := allMasqueraded(a.To)
	var names []string
	for _, to := range shown[:min(mostEndpoints, len(shown))] {
		if all {
			to = strings.TrimSuffix(to, masqueraded)
		}
		names = append(names, to)
	}
	list := strings.Join(names, ", ")
	if more := len(shown) - mostEndpoints; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	count := fmt.Sprintf("%d endpoints", len(a.To))
	if len(a.To) == 1 {
		count = "1 endpoint"
	}
	switch {
	case only && len(shown) == 0:
		text = "to " + count
	case only:
		text = "to " + count + ", of which only here: " + list
	default:
		text = "to " + list
	}
	if all {
		text += ", masqueraded"
	}
	if a.Affinity > 0 {
		text += fmt.Sprintf("; a client stays for %d s", a.Affinity)
	}
	return text
}

// allMasqueraded says whether all endpoints see the node's address.
func allMasqueraded(list []string) bool {
	return !slices.ContainsFunc(list, func(to string) bool { return !strings.HasSuffix(to, masqueraded) })
}
