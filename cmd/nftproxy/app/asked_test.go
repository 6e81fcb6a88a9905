// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
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
		before, _, known := strings.Cut(asked, ",\n  \"history\": {") // only who runs knows of that
		if before+"\n}\n" != made || !known {
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
	for args, want := range map[string]string{
		"explain web --probe --from-pod web-2":            "pod web-2 runs on node there, not on this one, here: run this command there",
		"explain web --probe --from-pod default/nobody":   "pod default/nobody is no endpoint of a Service here",
		"explain web --probe --from-pod 10.99.98.97":      " has 10.99.98.97",
		"explain web --from-pod 10.244.1.77":              "--from-pod: it goes with --probe",
		"explain web --probe --from-pod a/b --netns /x":   "--from-pod and --netns do not go together",
		"explain web --probe --from-pod 10.244.1.7,web-b": `"web-b" is no address`,
		"explain web --probe --from-pod=":                 `"--from-pod" flag: it is no pod: give its NAMESPACE/NAME`,
		"explain web --probe --from-pod /web-2":           "it is no pod: give its NAMESPACE/NAME",
		"explain web --probe --from-pod default/":         "it is no pod: give its NAMESPACE/NAME",
		"explain web --probe --from-pod a/b/c":            "it is no pod: give its NAMESPACE/NAME",
		"explain web --netns /proc/self/ns/net":           "--netns: it goes with --probe",
		"explain web --from-pod a/b --netns /x":           "--from-pod and --netns do not go together: give one",
		"explain web --probe --await":                     "--await: it goes with --from-pod",
		"trace --to 10.96.0.10 --at 10.96.0.10:80":        "--at: it goes with a Service in --to",
		"trace --to default/web --at 10.96.0.10":          `--at: "10.96.0.10" is not ADDRESS:PORT`,
	} {
		if out, err := n.run(append(strings.Fields(args), socket...)...); err == nil || !strings.Contains(err.Error()+out, want) {
			t.Errorf("%s: %v, %s; want %q", args, err, out, want)
		}
	}
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

// TestFind: an nftproxy whose socket or tables have another name than by default is found: by the lock, or as the only one that
// answers; which of several is not guessed.
func TestFind(t *testing.T) {
	n := newNode(t)
	dir := t.TempDir()
	start := func(args ...string) *proxy.Process {
		p := n.start(append([]string{"-v=1"}, args...)...)
		must(t, p.WaitSynced(n.ctx))
		must(t, p.WaitLog(n.ctx, "Commands can ask"))
		return p
	}
	p := start("--socket", filepath.Join(dir, "odd"))
	for args, want := range map[string]string{"get svc -A": "NAMESPACE ", "describe svc web": "Name: ", "history": "because: Service default/web came", "explain web -o json": `"history": {`, "diff": "equal: "} {
		if out, err := n.run(strings.Fields(args)...); err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v\n%s\nwant %q", args, err, out, want)
		}
	}
	must(t, p.Stop())
	pattern := filepath.Join(dir, "TABLE.sock")
	first := start("--socket", pattern, "--service-proxy-name", "first")
	for args, want := range map[string]string{
		"get tx":                               "nftproxy: asking the only nftproxy that runs here, of --service-proxy-name first\n",
		"get tx --service-proxy-name first":    "start",
		"diff":                                 "equal: ",
		"ui --address 0.0.0.0:0":               `"0.0.0.0" is not an address of loopback`,
		"trace --for 1ms":                      "--service-proxy-name first",
		"top --once --interval 1ms":            "--service-proxy-name first",
		"get tx --service-proxy-name anything": "no nftproxy answers here: ",
	} {
		out, err := n.run(append(strings.Fields(args), "--socket", pattern)...)
		if text := out; !strings.Contains(text+fmt.Sprint(err), want) {
			t.Errorf("%s: %v\n%s\nwant %q", args, err, out, want)
		}
	}
	second := start("--socket", pattern, "--service-proxy-name", "second")
	want := "several nftproxies answer here: that of table nftproxy-first at " + filepath.Join(dir, "nftproxy-first.sock") + ", that of table nftproxy-second at "
	for _, args := range []string{"get tx", "history", "explain web", "diff", "trace --for 1ms", "top --once", "ui"} {
		if out, err := n.run(append(strings.Fields(args), "--socket", pattern)...); err == nil || !strings.Contains(err.Error()+out, want) || !strings.Contains(err.Error(), "exit status 2") {
			t.Errorf("%s: %v\n%s\nwant %q", args, err, out, want)
		}
	}
	if out, err := n.run("get", "tx", "--service-proxy-name", "second", "--socket", pattern); err != nil {
		t.Errorf("one of them: %v\n%s", err, out)
	}
	must(t, first.Stop())
	must(t, second.Stop())
}
