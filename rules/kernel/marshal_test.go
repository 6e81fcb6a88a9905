// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/nftables/expr"
)

// TestCommonExpressions compares what is written by hand with what the library writes.
func TestCommonExpressions(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range statementRows() {
		for _, f := range row.families {
			exprs, err := encode(f, row.statement)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range exprs {
				var b builder
				if !b.common(e) {
					continue
				}
				seen[fmt.Sprintf("%T", e)] = true
				want, err := expr.Marshal(nfproto(f), e)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(b.Buf, want) {
					t.Errorf("%s: %T %+v\n  is written as %x\n  want          %x", row.text, e, e, b.Buf, want)
				}
			}
		}
	}
	if len(seen) != 5 {
		t.Errorf("only %v were compared, want 5 kinds", seen)
	}
}
