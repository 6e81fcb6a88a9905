// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nftproxy/nftproxy/rules"
)

func TestUsable(t *testing.T) {
	const (
		ready = 1 << iota // in the order of the fields
		serving
		terminating
		local
	)
	ep := func(addr string, flags int) rules.Endpoint {
		return rules.Endpoint{Addr: netip.MustParseAddrPort(addr), Ready: flags&ready != 0,
			Serving: flags&serving != 0, Terminating: flags&terminating != 0, Local: flags&local != 0}
	}
	a, b := "10.244.1.2:80", "10.244.1.3:80"
	for _, tt := range []struct {
		name string
		in   []rules.Endpoint
		want []rules.Endpoint
	}{
		{"none", nil, nil},
		{"sorted by address", []rules.Endpoint{ep(b, ready), ep(a, ready)}, []rules.Endpoint{ep(a, ready), ep(b, ready)}},
		{"one address in two slices counts once", []rules.Endpoint{ep(a, ready), ep(b, ready), ep(a, ready)}, []rules.Endpoint{ep(a, ready), ep(b, ready)}},
		{"of two that are one, one says that it is local", []rules.Endpoint{ep(a, ready), ep(a, ready|local)}, []rules.Endpoint{ep(a, ready|local)}},
		{"not ready", []rules.Endpoint{ep(a, 0), ep(b, ready)}, []rules.Endpoint{ep(b, ready)}},
		{"terminating ones only where none is ready", []rules.Endpoint{ep(a, serving|terminating), ep(b, ready)}, []rules.Endpoint{ep(b, ready)}},
		{"none ready: serving and terminating", []rules.Endpoint{ep(a, serving|terminating), ep(b, 0)}, []rules.Endpoint{ep(a, serving|terminating)}},
		{"terminating but not serving", []rules.Endpoint{ep(a, terminating)}, nil},
		{"serving but neither ready nor terminating", []rules.Endpoint{ep(a, serving)}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := rules.Usable(tt.in)
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
