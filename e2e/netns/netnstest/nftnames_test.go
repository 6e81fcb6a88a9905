// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netnstest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAsListed(t *testing.T) {
	for text, want := range map[string]string{
		"elements = { tcp, udp, sctp }":                             "elements = { 6, 17, 132 }",
		"{ 10.96.0.1 . tcp . 80 : goto service/test/web/tcp,\n\t\t": "{ 10.96.0.1 . 6 . 80 : goto service/test/web/tcp,\n\t\t",
		"meta l4proto tcp\n\tmeta l4proto udp reject":               "meta l4proto 6\n\tmeta l4proto 17 reject",
		"meta l4proto tcp reject with tcp reset":                    "meta l4proto 6 reject with tcp reset",
		"ip daddr . tcp dport map @stay":                            "ip daddr . tcp dport map @stay",
	} {
		if got := asListed(text, protocols()); got != want {
			t.Errorf("%q is listed as %q, want %q", text, got, want)
		}
		if got := asListed(text, nil); got != text {
			t.Errorf("%q is listed as %q where names are known", text, got)
		}
	}
}

func TestAsListedJSON(t *testing.T) {
	got := withNumbers([]any{"tcp", map[string]any{"protocol": "tcp", "right": "udp", "chain": "tcp-1"}}, protocols())
	want := []any{6.0, map[string]any{"protocol": "tcp", "right": 17.0, "chain": "tcp-1"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
