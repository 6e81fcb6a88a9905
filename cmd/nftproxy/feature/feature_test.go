// SPDX-License-Identifier: Apache-2.0

package feature

import (
	"errors"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
)

// picky is a kernel that takes nothing with some rules.
type picky struct {
	refuses func(rules.Tx) error
	tables  int
}

func (p *picky) Apply(tx rules.Tx) error {
	if err := p.refuses(tx); err != nil {
		return err
	}
	p.tables++
	return nil
}

func (p *picky) Remove(string) (int, error) {
	p.tables = 0
	return 0, nil
}

// TestCheck: each scheduler and each kind of service is tried, whatever becomes of the others, and nothing stays.
func TestCheck(t *testing.T) {
	refused := errors.New("refused")
	n := 0
	k := &picky{refuses: func(rules.Tx) error {
		n++
		if n == 2 {
			return refused
		}
		return nil
	}}
	i := 0
	for f := range Check(k) {
		i++
		if f.Name == "" || f.Uses == "" || (f.Err != nil) != (i == 2) {
			t.Errorf("%d: %+v", i, f)
		}
		if k.tables > 1 {
			t.Errorf("%s: what was tried before is still there", f.Name)
		}
	}
	if want := len(rules.Schedulers()) + 4; i != want {
		t.Errorf("%d features, want %d", i, want)
	}
	if k.tables != 0 {
		t.Error("something stays")
	}
}
