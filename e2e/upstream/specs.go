// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

//go:embed specs.tsv
var specs string

// Cluster is what a spec needs.
type Cluster string

// The clusters.
const (
	Part     Cluster = "part"     // two nodes; one of the few that are run on every change
	Two      Cluster = "two"      // two nodes
	Six      Cluster = "six"      // six nodes in three zones
	Balanced Cluster = "balanced" // two nodes, and a load balancer before them
	None     Cluster = "-"        // it is not run
)

// Spec is one of upstream's.
type Spec struct {
	Text    string // whole, as in e2e.test's list
	Cluster Cluster
	Reason  string // why it is not run; of one that is run, what to know of its result, mostly empty
}

// Specs returns all that there are.
func Specs() ([]Spec, error) { return parse(specs) }

// parse reads lines: cluster, text and, always where the cluster is None, the reason, with tabs.
func parse(text string) ([]Spec, error) {
	var out []Spec
	known := []Cluster{Part, Two, Six, Balanced, None}
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) < 2 || len(fields) > 3 || !slices.Contains(known, Cluster(fields[0])) {
			return nil, fmt.Errorf("read line %d of specs: %q is not a cluster, a spec and a reason", len(out)+1, line)
		}
		s := Spec{Cluster: Cluster(fields[0]), Text: fields[1]}
		if len(fields) == 3 {
			s.Reason = fields[2]
		}
		if s.Cluster == None && s.Reason == "" {
			return nil, fmt.Errorf("read specs: %q needs a reason why it is not run", s.Text)
		}
		if slices.ContainsFunc(out, func(o Spec) bool { return o.Text == s.Text }) {
			return nil, fmt.Errorf("read specs: %q is there twice", s.Text)
		}
		out = append(out, s)
	}
	return out, nil
}

// listed finds specs in what e2e.test --list-tests prints.
var listed = regexp.MustCompile(`(?m)\.go:\d+: (\[sig-network\].*?)\s*$`)

// Compare says what is different in e2e.test's list: specs that it has and nobody has decided of, and those that it has no more.
func Compare(list []Spec, listTests string) error {
	theirs := map[string]bool{}
	for _, m := range listed.FindAllStringSubmatch(listTests, -1) {
		theirs[m[1]] = true
	}
	if len(theirs) == 0 {
		return fmt.Errorf("compare specs: e2e.test lists none of sig-network")
	}
	var wrong []string
	for _, s := range list {
		if !theirs[s.Text] {
			wrong = append(wrong, "gone: "+s.Text)
		}
		delete(theirs, s.Text)
	}
	for text := range theirs {
		wrong = append(wrong, "new: "+text)
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return fmt.Errorf("compare specs: mend e2e/upstream/specs.tsv:\n%s", strings.Join(wrong, "\n"))
	}
	return nil
}
