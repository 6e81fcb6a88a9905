// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestGetWatch: the header and all lines come once, then those that are new or have changed, and nothing while all is as it was.
func TestGetWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := listingOf("endpoints")
		must(t, err)
		row := func(address, used string) []string {
			return []string{"web", "http/tcp", address, "", "", used, "", "", "ip"}
		}
		fault := errors.New("nobody answers")
		lists := []struct {
			rows [][]string
			err  error
			want string
		}{
			{[][]string{row("10.0.0.1:80", "yes"), row("10.0.0.2:80", "no")}, nil, "NAMESPACE SERVICE PORT ADDRESS POD NODE USED WHY|" +
				"demo web http/tcp 10.0.0.1:80 <none> <none> yes <none>|demo web http/tcp 10.0.0.2:80 <none> <none> no <none>"},
			{[][]string{row("10.0.0.1:80", "yes"), row("10.0.0.2:80", "no")}, nil, ""},
			{[][]string{row("10.0.0.1:80", "yes"), row("10.0.0.2:80", "yes")}, nil, "demo web http/tcp 10.0.0.2:80 <none> <none> yes <none>"},
			{[][]string{row("10.0.0.2:80", "yes")}, nil, ""}, // one has gone
			{[][]string{row("10.0.0.1:80", "yes"), row("10.0.0.2:80", "yes")}, nil, "demo web http/tcp 10.0.0.1:80 <none> <none> yes <none>"},
			{nil, fault, ""},
		}
		var out bytes.Buffer
		asked := 0
		o := &getOptions{tableView: tableView{all: true}}
		err = o.follow(t.Context(), &out, l, func() ([]listItem, error) {
			if asked > 0 {
				var lines []string
				for line := range strings.Lines(out.String()) {
					lines = append(lines, strings.Join(strings.Fields(line), " "))
				}
				if got := strings.Join(lines, "|"); got != lists[asked-1].want {
					t.Errorf("list %d: %s, want %s", asked, got, lists[asked-1].want)
				}
				out.Reset()
			}
			time.Sleep(200 * time.Millisecond)
			asked++
			return []listItem{{namespace: "demo", rows: lists[asked-1].rows}}, lists[asked-1].err
		})
		if !errors.Is(err, fault) || asked != len(lists) {
			t.Errorf("it ends with %v after %d lists", err, asked)
		}
	})
}

// TestGetWatchPace: it asks once a second at most, more rarely where answers take long, and ends without a fault.
func TestGetWatchPace(t *testing.T) {
	for took, want := range map[time.Duration]int{0: 60, 300 * time.Millisecond: 19} {
		synctest.Test(t, func(t *testing.T) {
			l, err := listingOf("services")
			must(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute-time.Millisecond)
			defer cancel()
			asked := 0
			if err := (&getOptions{}).follow(ctx, &bytes.Buffer{}, l, func() ([]listItem, error) {
				time.Sleep(took)
				asked++
				return nil, nil
			}); err != nil || asked != want {
				t.Errorf("with answers that take %v it has asked %d times, want %d (%v)", took, asked, want, err)
			}
		})
	}
}
