// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/nftables/expr"

	"github.com/nftproxy/nftproxy/rules"
)

// TestCommonExpressions compares what is written by hand with what the library writes.
func TestCommonExpressions(t *testing.T) {
	seen := map[string]bool{}
	tx := rules.Diff(rules.State{Name: rules.DefaultTable}, randomState(false))
	for _, op := range tx.Ops() {
		for _, rule := range op.Chain.Rules {
			for _, statement := range rule {
				compareCommon(t, op.Family, statement, seen)
			}
		}
	}
	if len(seen) != 5 {
		t.Errorf("only %v were compared, want 5 kinds", seen)
	}
}

func compareCommon(t *testing.T, f rules.Family, statement rules.Statement, seen map[string]bool) {
	t.Helper()
	exprs, err := encode(f, statement)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range exprs {
		var b builder
		if !b.common(e) {
			continue
		}
		seen[fmt.Sprintf("%T", e)] = true
		want, err := expr.Marshal(NFProto(f), e)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Buf, want) {
			t.Errorf("%s: %T %+v\n  is written as %x\n  want          %x", rules.Rule{statement}.Text(f), e, e, b.Buf, want)
		}
	}
}
