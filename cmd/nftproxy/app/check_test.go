// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/check"
)

// TestMend: only what is answered with y is done, with -y all of it, and what fails holds up nothing else.
func TestMend(t *testing.T) {
	for _, tt := range []struct {
		name, stdin string
		all         bool
		done, says  string
		fails       bool
	}{
		{"some", "y\nno\nY \n", false, "ac", "set a? [y/N] done\nset b? [y/N] left as it is\nset c? [y/N] done\n", false},
		{"nobody answers", "", false, "", "set a? [y/N] left as it is\nset b? [y/N] left as it is\nset c? [y/N] left as it is\n", false},
		{"one fails", "y\ny\ny\n", false, "ac", "set a? [y/N] done\nset b? [y/N] set c? [y/N] done\n", true},
		{"all", "", true, "abc", "set a? [y/N] y\ndone\nset b? [y/N] y\ndone\nset c? [y/N] y\ndone\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			done := ""
			var fixes []check.Fix
			for _, what := range []string{"a", "b", "c"} {
				fixes = append(fixes, check.Fix{What: "set " + what, Do: func() error {
					if what == "b" && tt.fails {
						return errors.New("it is stuck")
					}
					done += what
					return nil
				}})
			}
			var out strings.Builder
			err := mend(fixes, tt.all, strings.NewReader(tt.stdin), &out)
			if done != tt.done || out.String() != tt.says || (err != nil) != tt.fails || tt.fails && err.Error() != "set b: it is stuck" {
				t.Errorf("done is %q, said\n%s%v", done, out.String(), err)
			}
		})
	}
	var out strings.Builder
	if err := mend(nil, true, strings.NewReader(""), &out); err != nil || out.String() != "there is nothing that --fix can do\n" {
		t.Errorf("without fixes: %v, %q", err, out.String())
	}
}
