// SPDX-License-Identifier: Apache-2.0

//go:build linux

package check

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
)

// TestParseSocket: addresses as the kernel writes them, and what is none.
func TestParseSocket(t *testing.T) {
	for _, at := range []string{"10.1.2.3:30080", "[fd00::1:2]:53", "[::]:1", "0.0.0.0:65535"} {
		want := netip.MustParseAddrPort(at)
		text := ""
		for raw := want.Addr().AsSlice(); len(raw) > 0; raw = raw[4:] {
			text += fmt.Sprintf("%08X", binary.NativeEndian.Uint32(raw))
		}
		if got, ok := parseSocket(fmt.Sprintf("%s:%04X", text, want.Port())); got != want || !ok {
			t.Errorf("%s: got %s, %t", want, got, ok)
		}
	}
	for _, text := range []string{"", ":", "0100007F", "0100007F:", "0100007F:10000", "0100007:0050", "0100007G:0050", "0100007F0100007F:0050", "local_address"} {
		if got, ok := parseSocket(text); ok {
			t.Errorf("%q: got %s", text, got)
		}
	}
}
