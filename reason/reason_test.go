// SPDX-License-Identifier: Apache-2.0

package reason

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/internal/golden"
)

// examples are what is put into the texts of each reason that needs something.
var examples = map[Code][]any{
	EndpointsUnusable:   {3},
	NoSuchPort:          {81, "tcp"},
	NotInSourceRanges:   {"203.0.113.1", "198.51.100.0/24"},
	InDeniedRanges:      {"203.0.113.1", "203.0.113.0/24"},
	UnknownChain:        {"mine"},
	Remembered:          {"10.244.1.2", "10.244.1.3:8080"},
	EndpointGone:        {"10.244.1.2"},
	MeantForNode:        {"there", "here"},
	MeantForZone:        {"b", "a"},
	NoSliceFamily:       {"IPv6"},
	OtherPorts:          {"web (8080/tcp)", "http (tcp)"},
	OlderService:        {"default/web"},
	BetterClaim:         {"ClusterIP", "default/web"},
	HealthPortAPIServer: {31443},
	LoadBalancerName:    {"lb.example"},
	LoadBalancerProxy:   {"10.200.0.1", "Proxy"},
	OtherNodes:          {"ingress=true"},

	BadAddress:       {"clusterIP", "x"},
	SpecialAddress:   {"externalIP", "127.0.0.1", "a loopback address"},
	MappedAddress:    {"externalIP", "::ffff:10.0.0.1"},
	UnknownFailover:  {"nftproxy.io/failover", "yes", false},
	UnknownScheduler: {"nftproxy.io/scheduler", `"best" is none of round-robin, random, source-hash, client-hash, maglev, least-connections`, "round-robin"},
	BadProtocol:      {"http", "ICMP"},
	BadPort:          {"http", 0},
	BadNodePort:      {"http", -1},
	PortTwice:        {"http"},
	NoHealthPort:     {0},
	BadSourceRange:   {"everyone"},
	BadDeniedRange:   {"everyone"},
	BadAnnotation:    {"nftproxy.io/slow-start", `"soon" is no time`, "0s"},
	UselessWeight:    {"maglev"},
	MoreFaults:       {5},

	TooManyPorts:     {30000, 20000},
	TooManyFrontends: {"IPv4", 2000, 20, 32768, 1638},
	TooManyRanges:    {"IPv6", 4000, 20, 65536, 3276},
	TooManySets:      {5000, 4096},
	TooManyEndpoints: {7, 13107},

	BadSlicePort:           {"http", "ICMP", 80},
	BadEndpointAddress:     {"x"},
	SpecialEndpointAddress: {"127.0.0.1", "a loopback address"},
	OtherFamily:            {"fd00::1"},
	BadWeight:              {"nftproxy.io/weight", `"much" is no number from 0 to 65535`},

	KernelRefused: {"default/web", "file exists"},
	PortInUse:     {"address already in use"},
	Silent:        {"10.244.2.4:8080", "n1", "10s"},
	MoreConflicts: {4},
}

// TestTexts shows the whole list as it is read, each text with an example.
func TestTexts(t *testing.T) {
	var out strings.Builder
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&out, "  %-8s %s\n", name, text)
		}
	}
	for _, c := range All() {
		args := examples[c]
		fmt.Fprintln(&out, c)
		line("text", c.Text(args...))
		line("brief", c.Brief())
		if c.row().note != "" {
			line("note", c.Note(args[:strings.Count(c.row().note, "%")]...))
		}
		if c.row().foreign != "" {
			line("foreign", c.ForeignNote(args[:strings.Count(c.row().foreign, "%")]...))
		}
		line("log", c.Log())
		line("event", c.Event())
		line("kind", c.Kind())
	}
	if strings.Contains(out.String(), "%") {
		t.Error("a text has a verb that nothing is put into, or no verb for what is")
	}
	golden.Check(t, "testdata/TestTexts.txt", out.String())
}

// TestCodes: each code has a row with a text, is no other's, and is read as it is written.
func TestCodes(t *testing.T) {
	form, seen := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`), map[string]bool{}
	for _, c := range All() {
		text := c.String()
		if !form.MatchString(text) || seen[text] || c.Text() == "" {
			t.Errorf("reason %d has the code %q and the text %q", c, text, c.Text())
		}
		seen[text] = true
		written, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var read Code
		if err := json.Unmarshal(written, &read); err != nil || read != c {
			t.Errorf("%s is read as %v: %v", written, read, err)
		}
	}
	if (none.With() != Given{}) || Code(255).Text() != "" {
		t.Error("no reason has a text")
	}
	if err := new(Code).UnmarshalText([]byte("no-such-code")); err == nil {
		t.Error("what is no code is read")
	}
}
