// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/printable"
)

// view is what matters of a node's explanation where it is compared with others'.
type view struct {
	explanation *explain.Explanation
	used        map[string]bool   // endpoints that get connections, by port, family and address
	facts       map[string]string // what becomes of connections, by port, frontend and client
	ages                          // for how long that is so
}

// kernelFact is the fact that is of no frontend.
const kernelFact = "the kernel"

func titleOf(p *explain.Port) string {
	return fmt.Sprintf("%d/%s over %s", p.Number, p.Protocol, p.Family)
}

// viewOf reads an explanation.
func viewOf(text string) (*view, error) {
	v := &view{explanation: &explain.Explanation{}, used: map[string]bool{}, facts: map[string]string{}}
	if err := json.Unmarshal([]byte(text), v.explanation); err != nil {
		return nil, fmt.Errorf("read the explanation: %w", err)
	}
	for i := range v.explanation.Ports {
		p := &v.explanation.Ports[i]
		title := titleOf(p)
		for _, e := range p.Endpoints {
			if e.Cluster || e.Local {
				v.used[title+" "+e.Address] = true
			}
		}
		for _, f := range p.Frontends {
			at := f.Kind + " " + f.Address
			if f.Kind == "NodePort" { // each node has addresses of its own
				at = "NodePort " + f.Address[strings.LastIndex(f.Address, ":")+1:]
			}
			for _, c := range f.Clients {
				v.facts[title+", "+at+", from "+c.From] = outcome(&c)
			}
		}
		for _, lost := range p.Lost {
			v.facts[title+", conflict"] += "not served at " + lost + "; "
		}
	}
	v.facts[kernelFact] = kernel(&v.explanation.Kernel)
	v.ages = agesOf(v.explanation)
	return v, nil
}

// outcome says what becomes of a client's connections, not to which endpoints.
func outcome(c *explain.ClientView) string {
	hidden := 0
	for _, to := range c.To {
		if to.Masqueraded {
			hidden++
		}
	}
	switch {
	case c.Outcome != explain.Answer || hidden == 0:
		return string(c.Outcome)
	case hidden == len(c.To):
		return string(c.Outcome) + ", masqueraded"
	}
	return string(c.Outcome) + ", partly masqueraded"
}

func kernel(k *explain.Kernel) string {
	switch {
	case k.Holds == nil:
		return "was not compared: " + k.Problem
	case *k.Holds:
		return "holds just that"
	}
	return fmt.Sprintf("does not hold just that: %d differences", len(k.Differences))
}

// key is the same for views that are.
func (v *view) key() string {
	var b strings.Builder
	for _, u := range slices.Sorted(maps.Keys(v.used)) {
		b.WriteString(u + "\n")
	}
	for _, f := range slices.Sorted(maps.Keys(v.facts)) {
		b.WriteString(f + ": " + v.facts[f] + "\n")
	}
	return b.String()
}

// WriteExplained writes the explanations of nodes: that of the most in full, and of the others what differs. Each Answer has it as JSON.
func WriteExplained(w io.Writer, answers []Answer, style explain.Style) error {
	views := map[*Answer]*view{}
	grouped := groups(answers, func(a *Answer) string {
		if a.Err != nil || a.Out == "" {
			return fmt.Sprint("\x00", a.Code, a.Err, a.Errors)
		}
		v, err := viewOf(a.Out)
		if err != nil {
			a.Err = err
			return "\x00" + err.Error()
		}
		views[a] = v
		return v.key()
	})
	// Who could not be asked is not what the others are compared with.
	slices.SortStableFunc(grouped, func(a, b []*Answer) int {
		switch x, y := views[a[0]] != nil, views[b[0]] != nil; {
		case x == y:
			return 0
		case x:
			return -1
		}
		return 1
	})
	var b strings.Builder
	var most []*view
	for _, g := range grouped {
		v := views[g[0]]
		var all []*view
		for _, a := range g {
			all = append(all, views[a])
		}
		switch {
		case v == nil:
			fmt.Fprintf(&b, "%s: %s\n", names(g, 0), problem(g[0]))
		case most == nil:
			most = all
			if err := v.explanation.WriteText(&b, style); err != nil {
				return err
			}
			fmt.Fprintln(&b, summary(g, answers))
		default:
			fmt.Fprintf(&b, "%s differs: %s\n", names(g, 0), strings.Join(differences(most, all), "; "))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func summary(g []*Answer, all []Answer) string {
	switch {
	case len(g) == len(all) && len(all) > 1:
		return fmt.Sprintf("The same on all %d nodes; these are %s's words.", len(g), printable.Word(g[0].Node))
	case len(g) > 1:
		return fmt.Sprintf("The same on %d nodes; these are %s's words.", len(g), printable.Word(g[0].Node))
	}
	return fmt.Sprintf("So it is on %s.", printable.Word(g[0].Node))
}

// problem says why a node has no explanation.
func problem(a *Answer) string {
	if a.Err != nil {
		return printable.Error(a.Err)
	}
	return lineOf(a.Errors)
}

// differences says what is otherwise on some nodes, which agree, than on most, and for how long.
func differences(most, here []*view) (out []string) {
	missing, more := without(most[0].used, here[0].used), without(here[0].used, most[0].used)
	if len(missing) > 0 {
		out = append(out, endpoints(len(missing))+" missing"+forHowLong(missing, most, here)+": "+some(missing))
	}
	if len(more) > 0 {
		out = append(out, endpoints(len(more))+" more"+forHowLong(more, here, most)+": "+some(more))
	}
	facts, timed := otherFacts(most[0].facts, here[0].facts)
	if timed && len(out) == 0 {
		facts[len(facts)-1] += unchanged(most, here)
	}
	return append(out, facts...)
}

// otherFacts says which facts are others than on most nodes; timed: the last of them is about connections.
func otherFacts(most, here map[string]string) (facts []string, timed bool) {
	for _, name := range slices.Sorted(maps.Keys(here)) {
		if here[name] != most[name] && name != kernelFact {
			facts = append(facts, name+": "+here[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(most)) {
		if _, ok := here[name]; !ok {
			facts = append(facts, name+": nothing")
		}
	}
	const shownFacts = 8
	if n := len(facts) - shownFacts; n > 0 {
		facts = append(facts[:shownFacts], fmt.Sprintf("and %d differences more", n))
	}
	if here[kernelFact] != most[kernelFact] {
		return append(facts, kernelFact+": "+here[kernelFact]), false
	}
	return facts, len(facts) > 0
}

func without(a, b map[string]bool) (out []string) {
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if !b[k] {
			out = append(out, k)
		}
	}
	return out
}

func endpoints(n int) string {
	if n == 1 {
		return "1 endpoint"
	}
	return fmt.Sprintf("%d endpoints", n)
}

func some(list []string) string {
	const most = 4
	text := strings.Join(list[:min(most, len(list))], ", ")
	if n := len(list) - most; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}
