// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"net/http"
	"net/url"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier/cluster"
)

// selected returns what says whether a request asks for a Service, by its labels.
func (d *Daemon) selected(query url.Values) (func(cluster.ObjectName) bool, error) {
	text := query.Get("selector")
	if text == "" {
		return func(cluster.ObjectName) bool { return true }, nil
	}
	selector, err := labels.Parse(text)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "selector: %s", printable.Error(err))
	}
	known, look := map[cluster.ObjectName]bool{}, d.Proxier.Looker()
	return func(n cluster.ObjectName) bool {
		matches, ok := known[n]
		if !ok {
			matches = selector.Matches(look.Labels(n))
			known[n] = matches
		}
		return matches
	}, nil
}

// printedLabels makes labels printable.
func printedLabels(l labels.Set) map[string]string {
	if len(l) == 0 {
		return nil
	}
	out := make(map[string]string, len(l))
	for key, value := range l {
		out[printable.Word(key)] = printable.Word(value)
	}
	return out
}
