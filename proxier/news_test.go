// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"slices"
	"testing"

	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// changedServices returns owners of Services, two of each.
func changedServices(names ...string) (out []cluster.Changed) {
	for _, n := range names {
		for _, port := range []string{"a", "b"} {
			out = append(out, cluster.Changed{Owner: rules.Owner{ServicePortName: rules.ServicePortName{Namespace: "ns", Name: n, Port: port}}})
		}
	}
	return out
}

func manyServices(n int) (out []cluster.Changed) {
	for i := range n {
		out = append(out, changedServices(fmt.Sprintf("m%d", i))[0])
	}
	return out
}

func namesOf(n *News) (out []string) {
	for _, s := range n.Services {
		out = append(out, s.Name)
	}
	slices.Sort(out)
	return out
}

// TestNews: what has changed is told by name as long as it is known, and all may have where it is not.
func TestNews(t *testing.T) {
	h := newHistory(defaultRecords)
	if n := h.news(0, 10, 10); n.Last != 0 || n.All || len(n.Records) > 0 {
		t.Errorf("nothing was done: %+v", n)
	}
	h.add(Record{}, changedServices("one", "two"))
	h.add(Record{}, nil)
	h.add(Record{}, changedServices("two", "three"))
	for after, want := range map[uint64][]string{0: {"one", "three", "two"}, 1: {"three", "two"}, 2: {"three", "two"}, 3: nil} {
		n := h.news(after, 10, 10)
		if got := namesOf(&n); !slices.Equal(got, want) || n.All || n.Missed != 0 || len(n.Records) != int(3-after) || n.Last != 3 {
			t.Errorf("after %d: %v of %+v, want %v", after, got, n, want)
		}
	}
	if n := h.news(0, 2, 10); n.Missed != 1 || len(n.Records) != 2 || n.Records[0].Number != 2 || len(n.Services) != 3 {
		t.Errorf("two records at most: %+v", n)
	}
	if n := h.news(0, 2, 2); !n.All || n.Services != nil {
		t.Errorf("two names at most: %+v", n)
	}
	if n := h.news(9, 2, 2); !n.All || n.Last != 3 || len(n.Records) > 0 {
		t.Errorf("after what is still to come: %+v", n)
	}
	h.add(Record{}, manyServices(mostTouchedAtOnce+1))
	if n := h.news(3, 10, 1<<20); !n.All {
		t.Errorf("too many at once: %+v", n)
	}
	if n := h.news(4, 10, 10); n.All || len(n.Services) > 0 {
		t.Errorf("after them: %+v", n)
	}
	for range mostTouched/mostTouchedAtOnce + 2 {
		h.add(Record{}, manyServices(mostTouchedAtOnce))
	}
	if len(h.feed.ring) != mostTouched {
		t.Errorf("%d names are kept", len(h.feed.ring))
	}
	last := h.last
	if n := h.news(last-1, 10, 1<<20); n.All || len(n.Services) != mostTouchedAtOnce {
		t.Errorf("the last: all %v, %d", n.All, len(n.Services))
	}
	if n := h.news(4, 10, 1<<20); !n.All {
		t.Error("what was forgotten is known")
	}
	for range 2 * defaultRecords {
		h.add(Record{}, nil)
	}
	if n := h.news(last, 10, 10); n.Missed != 2*defaultRecords-10 || len(n.Records) != 10 || n.All {
		t.Errorf("many records: %+v", n)
	}
}

// TestYounger: who waits is woken by the next record, and at once if there is one.
func TestYounger(t *testing.T) {
	h := newHistory(defaultRecords)
	wait := h.younger(0)
	if wait != h.younger(0) {
		t.Error("each who waits costs something of its own")
	}
	select {
	case <-wait:
		t.Fatal("there is nothing")
	default:
	}
	h.add(Record{}, nil)
	<-wait
	<-h.younger(0)
	select {
	case <-h.younger(1):
		t.Error("there is nothing younger")
	default:
	}
}
