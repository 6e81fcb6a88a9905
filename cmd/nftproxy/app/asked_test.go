// SPDX-License-Identifier: Apache-2.0

package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// TestAsk: what the nftproxy that runs answers is what its manifests and the kernel tell, and it answers root alone.
func TestAsk(t *testing.T) {
	n := newNode(t)
	const manifests = "../explain/testdata/manifests"
	path := filepath.Join(t.TempDir(), "dir", "TABLE.sock")
	socket := []string{"--socket", path}
	start := func() func() {
		p := n.start("--cluster-cidr", "10.244.0.0/16", "--manifests", manifests, "--socket", path, "-v=1")
		must(t, p.WaitSynced(n.ctx))
		must(t, p.WaitLog(n.ctx, "Commands can ask"))
		return p.Kill
	}
	kill := start()
	info, err := os.Stat(filepath.Join(filepath.Dir(path), "nftproxy.sock"))
	must(t, err)
	if info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("the socket's mode is %v", info.Mode())
	}
	list, err := n.run(append([]string{"get", "services", "-A", "-o", "name"}, socket...)...)
	must(t, err)
	if strings.Count(list, "\n") < 2 {
		t.Fatalf("services: %s", list)
	}
	table, err := n.run(append([]string{"get", "services", "-A", "-o", "wide"}, socket...)...)
	must(t, err)
	seen := map[string]bool{}
	for line := range strings.Lines(table) {
		words := strings.Fields(line)
		if words[0] == "NAMESPACE" {
			continue
		}
		target := words[0] + "/" + words[1]
		if seen[target] {
			continue
		}
		seen[target] = true
		asked, err := n.run("explain", target, "--socket", path, "-o", "json")
		must(t, err)
		made, err := n.run("explain", target, "--socket", "", "--manifests", manifests, "--hostname-override", "here", "--cluster-cidr", "10.244.0.0/16", "-o", "json")
		must(t, err)
		if asked != made {
			t.Errorf("explain %s:\n%s\nwithout asking:\n%s", target, asked, made)
		}
	}
	if len(seen) < 2 {
		t.Errorf("compared %d Services", len(seen))
	}
	for args, want := range map[string]string{
		"get endpoints -A":                        "NAMESPACE   SERVICE ",
		"get ep -A -o wide --no-headers":          "/tcp ",
		"get conflicts -A -o json":                `"items": [`,
		"get refused -A":                          "No refused found.",
		"get connections -A":                      "No connections found.",
		"get affinity":                            "No affinity found in namespace default.",
		"get services -A -l none":                 "No services found.",
		"get services -A -l !none":                "ClusterIP",
		"history":                                 "service ports that are not named",
		"history default/none":                    "service ports that are not named",
		"history -o json --since 1h":              `"why": "start"`,
		"describe service web":                    "The kernel holds just that.",
		"describe svc default/web":                "Open connections\n  none\n",
		"describe svc/web -n default":             "Last changes\n",
		"describe web":                            "Events\n  not known: ",
		"explain svc/web":                         "goes to",
		"explain web.default.svc.cluster.local":   "goes to",
		"explain 10.96.0.10":                      "goes to",
		"diff":                                    "equal: the kernel holds just what",
		"diff -o json":                            `"servicePorts": `,
		"get transactions":                        "start",
		"get tx -o yaml":                          "- at: ",
		"get services -A -o yaml --sort-by .name": "items:\n- name: ",
		"get svc -A -o jsonpath={.items[*].type}": "ClusterIP",
		"get svc -A -o custom-columns=N:.name,X:.none --sort-by type": "N ",
		"get svc -A -o custom-columns=X:{.none} --no-headers":         "<none>\n",
	} {
		if out, err := n.run(append(strings.Fields(args), socket...)...); err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v\n%s\nwant %q", args, err, out, want)
		}
	}
	watch, werr := proxy.Start(n.command(append([]string{"get", "transactions", "--watch"}, socket...)...))
	must(t, werr)
	must(t, watch.WaitLog(n.ctx, "start"))
	must(t, watch.Stop())
	for _, wrong := range [][]string{{"get", "services", "not-there"}, {"get", "pods"}, {"get"}, {"get", "services", "-o", "xml"}, {"get", "services", "-o", "jsonpath={.x"}, {"get", "services", "-o", "custom-columns=x"},
		{"get", "services", "-w", "-o", "json"}, {"get", "conflicts", "web"}, {"get", "endpoints", "-o", "name"}, {"get", "services", "--sort-by", "{["}, {"get", "services", "web", "-A"},
		{"get", "services", "web", "-l", "a=b"}, {"get", "tx", "-l", "a=b"}, {"get", "svc", "-l", "a=,"},
		{"history", "--since", "-1s"}, {"history", "-o", "xml"}, {"describe", "pod", "web"}, {"describe", "svc", "missing"}, {"describe", "svc", "10.96.0.10"}, {"explain", "missing"}} {
		if out, err := n.run(append(wrong, socket...)...); err == nil || !strings.Contains(err.Error(), "exit status 2") {
			t.Errorf("%v: %v, %s", wrong, err, out)
		}
	}

	kill() // the file stays
	if _, err := os.Stat(filepath.Join(filepath.Dir(path), "nftproxy.sock")); err != nil {
		t.Error(err)
	}
	if out, err := n.run(append([]string{"get", "svc"}, socket...)...); err == nil {
		t.Errorf("nobody runs, and services are\n%s", out)
	}
	start()
	if _, err := n.run(append([]string{"get", "svc", "-A"}, socket...)...); err != nil {
		t.Error(err)
	}
	// In another network namespace it is not what is asked for.
	if out, err := newNode(t).run(append([]string{"get", "svc", "-A"}, socket...)...); err == nil {
		t.Errorf("in another network namespace:\n%s", out)
	}
}
