// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// scale multiplies the samples of nftproxy's metric at a size.
func scale(r *Results, metric string, services int, by float64) *Results {
	for i := range r.Measurements {
		if m := &r.Measurements[i]; m.Metric == metric && m.Peer == Nftproxy && m.Services == services && !m.neutral() {
			for j := range m.Samples {
				m.Samples[j] *= by
			}
		}
	}
	return r
}

func TestCompareSame(t *testing.T) {
	out := &bytes.Buffer{}
	if worse := WriteComparison(out, synthetic(1), synthetic(1)); worse != 0 || strings.Count(out.String(), "  nothing\n") != 2 {
		t.Errorf("%d got worse between a run and itself:\n%s", worse, out)
	}
}

// TestCompareNoise: runs that differ by chance alone hardly ever differ, in whatever metric.
func TestCompareNoise(t *testing.T) {
	const runs = 30
	wrong, of := 0, 0
	for seed := range uint64(runs) {
		a, b := synthetic(2*seed), synthetic(2*seed+1)
		for _, m := range Metrics() {
			of += len(a.keys(m.Name))
		}
		for _, d := range Compare(a, b) {
			wrong++
			t.Logf("seed %d: %s", seed, d)
		}
	}
	if wrong > of/1000 {
		t.Errorf("noise was taken for a difference %d times of %d", wrong, of)
	}
}

// TestCompareOneRound: where no noise was seen only large differences are named, and that is said.
func TestCompareOneRound(t *testing.T) {
	quick := func(seed uint64) *Results {
		r := synthetic(seed)
		r.Plan.Rounds = 1
		r.Measurements = slices.DeleteFunc(r.Measurements, func(m Measurement) bool { return m.Round > 0 })
		return r
	}
	for seed := range uint64(30) {
		if list := Compare(quick(2*seed), quick(2*seed+1)); len(list) > 0 {
			t.Errorf("seed %d: noise was taken for a difference: %s", seed, list)
		}
	}
	out := &bytes.Buffer{}
	if worse := WriteComparison(out, quick(1), scale(quick(1), "memory", 1000, 3)); worse != 1 {
		t.Errorf("%d worse, want the memory:\n%s", worse, out)
	}
	if want := "warning: both runs have one round"; !strings.Contains(out.String(), want) {
		t.Errorf("lacks %q:\n%s", want, out)
	}
}

// TestCompareWorse: what got slower is found among the noise, and what has more of what is better is not worse.
func TestCompareWorse(t *testing.T) {
	for _, c := range []struct {
		metric   string
		services int
		by       float64
		worse    bool
	}{
		{"change", 1000, 1.5, true}, {"change", 1000, 0.5, false}, {"connect", 1, 1.3, true},
		{"memory", 1000, 6, true}, {"rate", 1, 2.5, false}, {"rate", 1, 0.3, true}, {"throughput", 1000, 0.3, true},
	} {
		before, after := synthetic(1), scale(synthetic(1), c.metric, c.services, c.by)
		found := false
		for _, d := range Compare(before, after) {
			if d.Metric.Name != c.metric || d.Services != c.services || d.Peer != Nftproxy || d.Worse != c.worse {
				t.Errorf("%s times %g: %s (worse: %t)", c.metric, c.by, d, d.Worse)
			}
			found = true
		}
		if !found {
			t.Errorf("%s times %g was not noticed", c.metric, c.by)
		}
		out := &bytes.Buffer{}
		if worse := WriteComparison(out, before, after); (worse > 0) != c.worse {
			t.Errorf("%s times %g: %d worse:\n%s", c.metric, c.by, worse, out)
		}
	}
}

// TestCompareOnlyNftproxyCounts: the others show how alike the machines were.
func TestCompareOnlyNftproxyCounts(t *testing.T) {
	after := synthetic(1)
	for i := range after.Measurements {
		if m := &after.Measurements[i]; m.Peer == KubeProxyNftables && m.Metric == "change" {
			for j := range m.Samples {
				m.Samples[j] *= 3
			}
		}
	}
	out := &bytes.Buffer{}
	if worse := WriteComparison(out, synthetic(1), after); worse != 0 || !strings.Contains(out.String(), "kube-proxy nftables: One endpoint replaced, 1,000 Services: ") {
		t.Errorf("%d worse, want 0 and kube-proxy named:\n%s", worse, out)
	}
}

func TestCompareMissing(t *testing.T) {
	before, after := synthetic(1), synthetic(1)
	after.Machine.Kernel, after.Plan.Name = "6.12.0", "quick"
	var kept []Measurement
	for _, m := range after.Measurements {
		if m.Metric != "burst" || m.Services != 1000 {
			kept = append(kept, m)
		}
	}
	after.Measurements = kept
	out := &bytes.Buffer{}
	WriteComparison(out, before, after)
	for _, want := range []string{
		"warning: the kernel differs: 6.18.1, 6.12.0\n", "warning: the plan differs: full, quick\n",
		"Only in the old run:\n  nftproxy: A burst of changes, 1,000 Services\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
}
