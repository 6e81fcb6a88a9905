// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// TestHistoryOf: of each endpoint the last time counts, the start tells of none, and what is not named is said to be.
func TestHistoryOf(t *testing.T) {
	began := time.Date(2026, 11, 29, 2, 58, 0, 0, time.UTC)
	at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
	e := func(n byte) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, n}), 8080) }
	port := func(name string, came, went []netip.AddrPort) proxier.Recorded {
		return proxier.Recorded{Owner: rules.Owner{ServicePortName: rules.ServicePortName{Namespace: "demo", Name: name, Port: "http"}},
			Backends: 3, Came: came, CameCount: len(came), Went: went, WentCount: len(went)}
	}
	record := func(s, ports int, why string, list ...proxier.Recorded) proxier.Record {
		return proxier.Record{Times: proxier.Times{At: at(s)}, Why: why, ServicePorts: ports, Ports: list}
	}
	many := port("web", []netip.AddrPort{e(8)}, nil)
	many.CameCount = 9
	turn := func(n byte, s int) explain.Turn {
		return explain.Turn{Port: "http", Family: "ip", Address: e(n).String(), At: at(s)}
	}
	all := []proxier.Record{
		record(0, 1, "start", port("web", []netip.AddrPort{e(1)}, nil)),
		record(10, 1, "x", port("web", []netip.AddrPort{e(2), e(3)}, nil)),
		record(20, 1, "x", port("other", []netip.AddrPort{e(4)}, nil)),
		record(30, 2, "x", port("web", []netip.AddrPort{e(5)}, []netip.AddrPort{e(2)}), port("other", nil, nil)),
	}
	for _, tt := range []struct {
		name string
		more []proxier.Record
		want explain.History
	}{
		{"", nil, explain.History{Written: at(30), Came: []explain.Turn{turn(3, 10), turn(5, 30)}, Went: []explain.Turn{turn(2, 30)}}},
		{"and back", []proxier.Record{record(40, 1, "x", port("web", []netip.AddrPort{e(2)}, nil))},
			explain.History{Written: at(40), Came: []explain.Turn{turn(2, 40), turn(3, 10), turn(5, 30)}}},
		{"others are not named", []proxier.Record{record(50, 9, "x", port("other", nil, nil))},
			explain.History{Written: at(30), Unnamed: at(50), Came: []explain.Turn{turn(3, 10), turn(5, 30)}, Went: []explain.Turn{turn(2, 30)}}},
		{"endpoints are not named", []proxier.Record{record(60, 1, "x", many)},
			explain.History{Written: at(60), Unnamed: at(60), Came: []explain.Turn{turn(3, 10), turn(5, 30), turn(8, 60)}, Went: []explain.Turn{turn(2, 30)}}},
	} {
		tt.want.At, tt.want.From = at(100), at(0)
		got := historyOf(cluster.ObjectName{Namespace: "demo", Name: "web"}, slices.Concat(all, tt.more), at(100))
		byAddress := func(a, b explain.Turn) int { return int(a.Address[9]) - int(b.Address[9]) }
		slices.SortFunc(got.Came, byAddress)
		if diff := cmp.Diff(&tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
