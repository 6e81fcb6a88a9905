// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"errors"
	"net/http"
	"time"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
)

// Diff is the answer to /v1/diff.
type Diff struct {
	Equal bool `json:"equal"`
	// ServicePorts is how many the kernel should hold.
	ServicePorts int                `json:"servicePorts"`
	Differences  []rules.Difference `json:"differences"`
	// More is how many there are besides, and Counts how many there are of each kind.
	More   int                          `json:"more,omitempty"`
	Counts map[rules.DifferenceKind]int `json:"counts,omitempty"`
}

// diff answers with the differences between what the kernel holds and what it should.
func (c *costly) diff(r *http.Request) (any, error) {
	limit, err := limitOf(r.URL.Query())
	if err != nil {
		return nil, err
	}
	var out Diff
	err = c.compared.do(r.Context(), func() error {
		found, servicePorts, failed := proxier.Inspect(c.d.Proxier).Differences(r.Context(), limit, c.d.Scan)
		if errors.Is(failed, proxier.ErrNotProgrammed) {
			return refuse(http.StatusServiceUnavailable, "%s", failed)
		}
		out = Diff{Equal: len(found.List) == 0, ServicePorts: servicePorts, Differences: append([]rules.Difference{}, found.List...), Counts: found.Counts}
		return failed
	})
	out.More = -len(out.Differences)
	for _, n := range out.Counts {
		out.More += n
	}
	return out, err
}

// Drift is the answer to /v1/drift: what is known without another look at the kernel.
type Drift struct {
	// Equal says that the kernel holds all that it should, as far as that is known; else Why says why not, and Since since when.
	Equal bool      `json:"equal"`
	Why   string    `json:"why,omitempty"`
	Since time.Time `json:"since,omitzero"`
	// Compared is when everything was compared last, and Repaired is how many operations repaired what such comparisons found.
	Compared time.Time `json:"compared,omitzero"`
	Repaired int       `json:"repaired"`
	// Repairs are the last of those that were made since the start, whoever noticed.
	Repairs []Transaction `json:"repairs"`
}

// drift answers with what has differed.
func (d *Daemon) drift(*http.Request) (any, error) {
	known := proxier.Inspect(d.Proxier).Drift()
	out := Drift{Equal: known.Unequal == "", Why: known.Unequal, Compared: known.Compared.UTC(), Repaired: known.Repairs, Repairs: []Transaction{}}
	if !out.Equal {
		out.Since = known.Since.UTC()
	}
	const most = 20
	for _, r := range proxier.Inspect(d.Proxier).Repairs(most) {
		out.Repairs = append(out.Repairs, transactionOf(&r))
	}
	return out, nil
}
