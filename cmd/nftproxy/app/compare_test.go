// SPDX-License-Identifier: Apache-2.0

//go:build linux

package app

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// TestCompare: a node without rules of kube-proxy is an error; rules that send connections elsewhere are found; and nothing is changed.
func TestCompare(t *testing.T) {
	netnstest.Tool(t, "nft")
	ns, err := netns.New("node")
	must(t, err)
	defer func() { _ = ns.Close() }()
	manifests, err := filepath.Abs("../compare/testdata/manifests")
	must(t, err)
	nft := func(script string, args ...string) string {
		t.Helper()
		var out []byte
		must(t, ns.Do(func() error {
			cmd := exec.Command("nft", args...)
			cmd.Stdin = strings.NewReader(script)
			var err error
			out, err = cmd.CombinedOutput()
			return err
		}))
		return string(out)
	}
	compare := func(code int, args ...string) string {
		t.Helper()
		args = append([]string{"compare", "--socket=", "--manifests", manifests, "--hostname-override", "here", "--cluster-cidr", "10.244.0.0/16"}, args...)
		out, err := proxy.Run(t.Context(), proxy.Config{Args: args, Env: []string{runEnv + "=1"}, NS: ns})
		var exit *exec.ExitError
		if got := err != nil && errors.As(err, &exit) && exit.ExitCode() == code; !got {
			t.Errorf("compare: %v, want exit code %d:\n%s", err, code, out)
		}
		return out
	}
	if out := compare(2); !strings.Contains(out, "there are no rules of kube-proxy in this network namespace") {
		t.Error(out)
	}
	nft(`table ip kube-proxy {
		map service-ips { type ipv4_addr . inet_proto . inet_service : verdict
			elements = { 10.96.0.14 . tcp . 80 : goto service-ABCDEFGH-demo/single/tcp/http, 10.96.0.99 . udp . 99 : goto service-HGFEDCBA-shop/old/udp/ } }
		chain prerouting { type nat hook prerouting priority dstnat; ip daddr . meta l4proto . th dport vmap @service-ips; }
		chain service-ABCDEFGH-demo/single/tcp/http { meta l4proto tcp dnat to 10.244.9.9:8080; }
		chain service-HGFEDCBA-shop/old/udp/ { drop; }
	}`, "-f", "-")
	before := nft("", "list", "ruleset")
	out := compare(1)
	for _, want := range []string{"demo/single:http, ClusterIP 10.96.0.14:80/tcp\n  from a pod\n    kube-proxy  to 10.244.9.9:8080\n    nftproxy    to 10.244.1.7:8080\n",
		"shop/old, address 10.96.0.99:99/udp\n  from this node\n    kube-proxy  no rule: whatever listens there\n    nftproxy    dropped\n", "by kube-proxy's rules of mode nftables would change"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if out := compare(1, "-o", "json"); !strings.Contains(out, `"to": [`+"\n"+`          "10.244.9.9:8080"`) {
		t.Errorf("as JSON: %.2000s", out)
	}
	if after := nft("", "list", "ruleset"); after != before {
		t.Errorf("the rules have changed:\n%s", after)
	}
}
