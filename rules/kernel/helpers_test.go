// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/rules"
)

// wantState compares what was read back with what should be there.
func wantState(t testing.TB, what string, got, want rules.State) {
	t.Helper()
	diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}))
	if lines := cmp.Diff(stateText(t, want), stateText(t, got)); lines != "" {
		diff = lines // easier to read
	}
	if diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// wantSame says that a state needs no change to become another.
func wantSame(t testing.TB, have, want rules.State) {
	t.Helper()
	if tx := rules.Diff(have, want); tx.Len() != 0 {
		t.Errorf("%d operations left: %s", tx.Len(), summary(tx))
	}
}

// summary names the operations of a transaction.
func summary(tx rules.Tx) string {
	var lines []string
	for _, op := range tx.Ops() {
		lines = append(lines, op.Object(tx.Name).String())
	}
	return strings.Join(lines, "; ")
}

func transaction(ops ...rules.Op) rules.Tx {
	tx := rules.Tx{Name: rules.DefaultTable}
	tx.Add(ops...)
	return tx
}

func stateText(t testing.TB, s rules.State) string {
	t.Helper()
	var b strings.Builder
	if err := s.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// numbered numbers the lines of a script, for nft's messages.
func numbered(script string) string {
	var b strings.Builder
	for i, line := range strings.Split(script, "\n") {
		fmt.Fprintf(&b, "%4d  %s\n", i+1, line)
	}
	return b.String()
}

// services returns n TCP services web-0, web-1, ... of one family, each with some
// endpoints on other nodes.
func services(f rules.Family, n, endpoints int) []rules.Owned {
	out := make([]rules.Owned, n)
	for i := range out {
		out[i] = service(f, i, 0, endpoints)
	}
	return out
}

// service returns the i-th service, with the endpoints of its own from one number
// on up to another.
func service(f rules.Family, i, from, to int) rules.Owned {
	sp := rules.ServicePort{
		Name:   rules.ServicePortName{Namespace: "default", Name: fmt.Sprintf("web-%d", i), Port: "http"},
		Family: f, Protocol: rules.TCP, ClusterIP: address(f, 96, i), Port: 80,
	}
	var endpoints []rules.Endpoint
	for j := from; j < to; j++ {
		endpoints = append(endpoints, rules.Endpoint{Addr: netip.AddrPortFrom(address(f, 128, 16*i+j), 8080), Ready: true})
	}
	return rules.Owned{Owner: rules.Owner{ServicePortName: sp.Name, Family: f}, Objects: rules.Build(sp, endpoints, rules.Config{}.WithDefaults(), rules.Node{})}
}

// address returns the i-th address of the network 10.NET.0.0 or fd00:NET::.
func address(f rules.Family, net byte, i int) netip.Addr {
	if f == rules.IPv4 {
		return netip.AddrFrom4([4]byte{10, net + byte(i>>16), byte(i >> 8), byte(i)})
	}
	return netip.AddrFrom16([16]byte{0xfd, 2: 0, 3: net, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
}

// desired returns the desired state with some services.
func desired(services ...rules.Owned) *rules.Desired {
	d := rules.NewDesired(rules.Config{PodCIDRs: []netip.Prefix{
		netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")}}, rules.Node{})
	d.Update(services)
	return d
}

// needSources skips the test where it runs away from the package's sources: as an
// ordinary user, who may not be able to read the checkout.
func needSources(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("../statement.go"); errors.Is(err, os.ErrNotExist) && netns.InUserNamespace() {
		t.Skip("this second run is not in the package's directory")
	}
}
