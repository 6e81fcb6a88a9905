// SPDX-License-Identifier: Apache-2.0

package app

import (
	"strings"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
)

// TestHistoryText: what each kind of transaction says, of all and of one Service.
func TestHistoryText(t *testing.T) {
	at := time.Date(2026, 11, 29, 2, 58, 0, 123e6, time.Local)
	web := ask.Owner{Namespace: "default", Name: "web", Port: "http", Family: "ip"}
	dns := ask.Owner{Namespace: "default", Name: "dns", Family: "ip6"}
	list := []ask.Transaction{
		{Times: ask.Times{At: at, Took: 12.34}, Why: "start", ServicePorts: 9},
		{Times: ask.Times{At: at, Took: 1, Delay: 1234}, ServicePorts: 2, Ports: []ask.Written{
			{Owner: web, Used: 3, Came: []string{"10.1.1.1:80", "10.1.1.2:80", "10.1.1.3:80"}, CameCount: 5, Went: []string{"10.1.1.9:80"}, WentCount: 1},
			{Owner: dns, Went: []string{"[fd00::1]:53"}, WentCount: 1}},
			Causes: []ask.Cause{{Kind: "EndpointSlice", Name: "default/web-1", What: "changed"}, {Kind: "Node", Name: "here", What: "changed"}}, CauseCount: 7},
		{Times: ask.Times{At: at, Took: 1, Waited: 2.25}, ServicePorts: 1, Ports: []ask.Written{{Owner: web, Begun: []string{"10.96.0.2:80/tcp"}, BegunCount: 1, Ended: []string{"10.96.0.1:80/tcp"}, EndedCount: 1}},
			Causes: []ask.Cause{{Kind: "Service", Name: "default/web", What: "changed"}}, CauseCount: 1},
		{Times: ask.Times{At: at.Add(24 * time.Hour), Took: 3}, Why: "the tables were changed by another program", By: "nft (17)", Repairs: "element of single"},
		{Times: ask.Times{At: at.Add(24 * time.Hour), Took: 120000}, ServicePorts: 1, Ports: []ask.Written{{Owner: web, Used: 3}}, Refused: "no memory",
			Causes: []ask.Cause{{Kind: "shares"}, {Kind: "failover", Name: "default/web"}, {Kind: "API server"}}, CauseCount: 3},
	}
	var all, one strings.Builder
	must(t, writeHistory(&all, list, ""))
	must(t, writeHistory(&one, list[1:2], "default/dns"))
	const want = `2026-11-29
02:58:00.123    12.3 ms  9 service ports that are not named
02:58:00.123      1.2 s  default/web:http: new endpoints 10.1.1.1:80, 10.1.1.2:80, 10.1.1.3:80 and 2 more; lost endpoints 10.1.1.9:80; 3 now
                         default/dns (IPv6): lost endpoints [fd00::1]:53; none is left
                           because: EndpointSlice default/web-1 changed, Node here changed, and 5 more
02:58:00.123    <2.2 ms  default/web:http: served at 10.96.0.2:80/tcp; no more served at 10.96.0.1:80/tcp
                           because: Service default/web changed
2026-11-30
02:58:00.123     3.0 ms  repaired: element of single
                           because: changed by nft (17)
02:58:00.123       2m0s  default/web:http: written anew, with the same addresses and endpoints
                         the kernel refused: no memory
                           because: open connections or time have changed the endpoints' shares, an endpoint of Service default/web has ceased to answer, or answers again, this node reaches its API server elsewhere
`
	if all.String() != want {
		t.Errorf("got\n%s\nwant\n%s", all.String(), want)
	}
	if text := one.String(); strings.Contains(text, "web:http") || !strings.Contains(text, "default/dns (IPv6): lost") {
		t.Errorf("of one Service:\n%s", text)
	}
	for i, wants := range []bool{true, true, true, false, true} { // the first may be about any
		if got := concerns(&list[i], "default/web"); got != wants {
			t.Errorf("transaction %d concerns default/web: %v", i, got)
		}
	}
}
