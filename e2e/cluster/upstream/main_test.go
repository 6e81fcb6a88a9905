// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"os"
	"slices"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/cluster"
	"github.com/nftproxy/nftproxy/e2e/upstream"
)

func TestMain(m *testing.M) {
	cluster.RunChild()
	os.Exit(m.Run())
}

// TestStages: a run of all has each chosen spec, once.
func TestStages(t *testing.T) {
	list, err := upstream.Specs()
	if err != nil {
		t.Fatal(err)
	}
	all, err := stages("all")
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, s := range all {
		for _, kind := range s.clusters {
			for _, spec := range (&runner{}).of(list, kind) {
				count[spec]++
			}
		}
	}
	for _, s := range list {
		want := 1
		if s.Cluster == upstream.None {
			want = 0
		}
		if count[s.Text] != want {
			t.Errorf("%s is run %d times, want %d", s.Text, count[s.Text], want)
		}
	}
	if _, err := stages("none"); err == nil {
		t.Error("an unknown stage is no error")
	}
}

// TestGroups: each spec is in one group, and no group is larger than asked for.
func TestGroups(t *testing.T) {
	var specs []string
	for n := range 14 {
		var got []string
		for _, g := range groups(specs, 4) {
			if len(g) > 4 || len(g) == 0 {
				t.Errorf("%d specs: a group of %d", n, len(g))
			}
			got = append(got, g...)
		}
		slices.Sort(got)
		if !slices.Equal(got, specs) {
			t.Errorf("groups of %q: %q", specs, got)
		}
		specs = append(specs, string(rune('a'+n)))
	}
}
