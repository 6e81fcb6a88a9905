// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"cmp"
	"slices"
	"strings"
)

// capability is a row of the table: what is asked of a kernel, and what proves it.
type capability struct {
	name  string
	has   string   // a word of init.sh, if the row says what the kernel has
	tests []string // SUITE/TEST or SUITE, which pass where the kernel can do it
	sctp  bool     // without SCTP in the kernel the tests have nothing to try
	lack  string   // what is said where the tests are skipped, as the kernel has no such thing
}

// capabilities are the rows, in their order.
func capabilities() []capability {
	return []capability{
		{name: "exact round robin", tests: []string{"packets/TestRoundRobinAmongOthers", "packets/TestRoundRobinKeepsItsTurn",
			"packets/TestRoundRobinAfterItsOwnChange", "packets/TestEndpoints"}},
		{name: "other schedulers", tests: []string{"packets/TestSchedulers"}},
		{name: "session affinity (maps that packets fill)", tests: []string{"packets/TestAffinity", "packets/TestAffinityUnderLocal",
			"packets/TestAffinityIsRefreshedAndBounded",
			"packets/TestAffinityInAFullMap", "packets/TestAffinityToPorts", "packets/TestAffinityWithoutChecksum"}},
		{name: "every field of a Service: NodePorts, load balancers' addresses, source ranges, policies",
			tests: []string{"packets/TestServiceAPI", "packets/TestNodePortAddresses"}},
		{name: "masquerading, a pod that reaches itself", tests: []string{"packets/TestMasquerade", "packets/TestHairpin", "packets/TestHairpinFromOutside"}},
		{name: "refusals (TCP, UDP, SCTP over IPv4)", tests: []string{"traffic/TestReject", "packets/TestEndpointsChange"}},
		{name: "counters of Services", tests: []string{"packets/TestServiceMetrics", "packets/TestServiceMetricsListing",
			"inspect/TestConnections", "inspect/TestAffinityUsage"}},
		{name: "flows leave endpoints that are gone", tests: []string{"packets/TestStaleFlows", "packets/TestStaleFlowsFromOutside",
			"packets/TestStaleFlowsInZones", "packets/TestFlowsToADrainingEndpointStay", "packets/TestClientsOfADeadEndpoint", "conntrack"}},
		{name: "a restart is not noticed", tests: []string{"packets/TestRestart", "packets/TestStaleFlowsOfARestart", "demo"}},
		{name: "owned tables (Linux 6.9): nobody else changes them, and from and to tables without an owner no connection fails",
			tests: []string{"packets/TestOwnedTables", "packets/TestOwnershipComesAndGoes", "packets/TestHeldTables", "packets/TestOwnedDump"}, lack: "no"},
		{name: "one nftproxy at a time, and the next one takes over", tests: []string{"lock", "packets/TestHandOver", "packets/TestHandOverOfChanges"}},
		{name: "foreign changes are repaired", tests: []string{"packets/TestRepair", "packets/TestOthersTablesStay", "kernel/TestAdoption",
			"kernel/TestForeignThings", "kernel/TestModel", "kernel/TestRefused", "kernel/TestRepairByEvent", "kernel/TestStatements", "kernel/TestWatch"}},
		{name: "`nftproxy trace` (Linux 5.12)", tests: []string{"packets/TestTrace"}, lack: "no"},
		{name: "explain, top, diff, dump", tests: []string{"packets/TestExplain", "packets/TestTop", "packets/TestDiff",
			"packets/TestDumpLoads"}},
		{name: "real SCTP: connections, several associations", sctp: true, tests: []string{"packets/TestSCTPAssociations"}},
		{name: "real SCTP: an endpoint or a client restarts", sctp: true, tests: []string{"packets/TestSCTPRestarts"}},
		{name: "real SCTP: the first path of a multihomed one", sctp: true, tests: []string{"packets/TestSCTPMultihoming"}},
		{name: "real SCTP: refusals", sctp: true, tests: []string{"packets/TestSCTPRefusal"}},
		{name: "flow tables (nftproxy uses none)", has: "flowtable"},
	}
}

// brief returns the parts that have the tests of the rows, and no others.
func brief() []part {
	whole, some := map[string]bool{}, map[string][]string{}
	for _, c := range capabilities() {
		for _, id := range c.tests {
			if name, test, single := strings.Cut(id, "/"); single {
				some[name] = append(some[name], test)
			} else {
				whole[name] = true
			}
		}
	}
	var list []part
	for _, s := range suites() {
		switch {
		case whole[s.name]:
			list = append(list, part{s, "."})
		case len(some[s.name]) > 0:
			list = append(list, part{s, "^(" + strings.Join(some[s.name], "|") + ")$"})
		}
	}
	return list
}

// verdicts of a row, in words of the table.
const (
	passed  = "passed"
	skipped = "skipped"
	notRun  = "-"
)

// judge returns what a run of a kernel says of a capability.
func (c capability) judge(r *result) string {
	if c.has != "" {
		return orDash(r.Has[c.has])
	}
	if c.sctp && !r.SCTP {
		return notRun
	}
	var failed []string
	ran, left := 0, 0
	for _, id := range c.tests {
		switch name, verdict := judgeTest(r, id); verdict {
		case passed:
			ran++
		case notRun:
			left++
		case skipped:
		default:
			failed = append(failed, name)
		}
	}
	switch {
	case len(failed) > 0:
		return "**failed**: " + strings.Join(failed, ", ")
	case left > 0:
		return notRun // of what ran in part nothing is said
	case ran == 0:
		return cmp.Or(c.lack, skipped)
	}
	return passed
}

// judgeTest returns what became of a test, or of all tests of a suite, and the name by which it is told.
func judgeTest(r *result, id string) (name, verdict string) {
	of, test, single := strings.Cut(id, "/")
	o := r.Suites[of]
	switch {
	case o == nil:
		return id, notRun
	case !single && o.Code == "0":
		return of, passed
	case !single && o.Code == "" && len(o.Failed) == 0:
		return of, notRun
	case !single:
		return of, "failed"
	case slices.Contains(o.Failed, test):
		return test, "failed"
	case slices.Contains(o.Passed, test):
		return test, passed
	case slices.Contains(o.Skipped, test):
		return test, skipped
	}
	return test, notRun
}

func orDash(s string) string {
	if s == "" {
		return notRun
	}
	return s
}
