// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	logsapi "k8s.io/component-base/logs/api/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/internal/golden"
)

// runEnv makes the test binary act as nftproxy.
const runEnv = "NFTPROXY_E2E_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(runEnv) != "" {
		os.Exit(Main("v1.2.3"))
	}
	if os.Getenv(shamEnv) != "" {
		actSham()
		os.Exit(0)
	}
	logsapi.ReapplyHandling = logsapi.ReapplyHandlingIgnoreUnchanged // many command lines are carried out in this process
	os.Exit(netns.Main(m.Run))
}

// run carries out a command line in this process.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), wholeTest)
	defer cancel()
	code = Run(ctx, "v1.2.3", args, &out, &errs)
	return code, out.String(), proxy.WithoutUnseen(errs.String())
}

// TestErrors: what is wrong with a command line is one message, and nothing is done.
func TestErrors(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	missing := filepath.Join(t.TempDir(), "missing")
	for _, tt := range []struct {
		name string
		args string
		want []string
	}{
		{"no such command", "fly", []string{`unknown command "fly"`}},
		{"no such flag", "run --fly", []string{"unknown flag: --fly"}},
		{"an argument", "run now", []string{`unknown command "now"`}},
		{"no source", "run", []string{"no source of Services", "--kubeconfig FILE, --master URL or --manifests DIR"}},
		{"two sources", "run --manifests . --kubeconfig k", []string{"--manifests goes with neither --kubeconfig nor --master"}},
		{"missing kubeconfig", "run --kubeconfig " + missing, []string{"read kubeconfig " + missing, "no such file"}},
		{"missing directory", "dump --manifests " + missing, []string{missing, "no such file"}},
		{"all faults at once", "dump --manifests . --cluster-cidr 10.0.0.0/8,pods --masquerade-bit 32 --scheduler fast --affinity-size 0 " +
			"--node-ip here --nodeport-addresses 10.0.0.1",
			[]string{`clusterCIDR: Invalid value: "pods": must be a CIDR`, "nftables.masqueradeBit: Invalid value: 32: must be within the range [0, 31]",
				`--scheduler: "fast" is none of round-robin, random, source-hash, client-hash, maglev, least-connections`, "--affinity-size: 0", `--node-ip: "here" is not an IP address`,
				`nodePortAddresses[0]: Invalid value: "10.0.0.1": must be a CIDR or one of the keywords`}},
		{"no way to tell pods", "dump --manifests . --detect-local-mode magic", []string{`detectLocalMode: Unsupported value: "magic"`}},
		{"no interface", "dump --manifests . --detect-local-mode BridgeInterface", []string{`detectLocal.bridgeInterface: Invalid value: "": must be the name of an interface`}},
		{"a long interface", "dump --manifests . --detect-local-mode InterfaceNamePrefix --pod-interface-name-prefix 1234567890123456",
			[]string{"detectLocal.interfaceNamePrefix", "at most 15 characters"}},
		{"a proxy name that is no label", "dump --manifests . --service-proxy-name a/b", []string{"a/b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := run(t, strings.Fields(tt.args)...)
			const want = 2
			if code != want || stdout != "" || !strings.HasPrefix(stderr, "nftproxy: ") {
				t.Errorf("exit code %d, output %q, errors %q; want %d, nothing, and a message", code, stdout, stderr, want)
			}
			for _, want := range tt.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("the message does not say %q:\n%s", want, stderr)
				}
			}
		})
	}
}

func TestVersion(t *testing.T) {
	for _, args := range []string{"version", "--version", "run --version", "run --version=true", "run --version=raw"} {
		if code, out, _ := run(t, strings.Fields(args)...); code != 0 || !strings.Contains(out, "v1.2.3") {
			t.Errorf("%s: exit code %d, %q", args, code, out)
		}
	}
	if code, out, _ := run(t, "run", "--version=new"); code != 2 {
		t.Errorf("exit code %d, %q", code, out)
	}
}

// TestDump prints the rules for manifests, without any privilege.
func TestDump(t *testing.T) {
	for name, args := range map[string]string{
		"plain":   "--hostname-override here --cluster-cidr 10.244.0.0/16",
		"options": "--hostname-override HERE --masquerade-all --masquerade-bit 3 --nodeport-addresses all --scheduler random",
	} {
		t.Run(name, func(t *testing.T) {
			code, out, stderr := run(t, append([]string{"dump", "--manifests", "testdata/services"}, strings.Fields(args)...)...)
			if code != 0 || stderr != "" {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			golden.Check(t, filepath.Join("testdata", strings.ReplaceAll(t.Name(), "/", "_")+".nft"), out)
		})
	}
}

// TestDumpSaysWhatIsBroken and prints the rest.
func TestDumpSaysWhatIsBroken(t *testing.T) {
	dir := t.TempDir()
	good, err := os.ReadFile("testdata/services/web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"good.yaml": string(good), "bad.yaml": "kind: Service\napiVersion: v1\nspec: {ports: 7}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	code, out, stderr := run(t, "dump", "--manifests", dir)
	if code != 0 || !strings.Contains(out, "service/default/web/http") {
		t.Errorf("exit code %d, %s", code, out)
	}
	if !strings.Contains(stderr, "nftproxy: bad.yaml:") {
		t.Errorf("no message names the file and line: %s", stderr)
	}
}

// TestLifeCycle goes through dump --kernel, run, /metrics and cleanup on one node.
func TestLifeCycle(t *testing.T) {
	n := newNode(t)
	expect := func(wantErr bool, want string, args ...string) {
		t.Helper()
		out, err := n.run(args...)
		if (err != nil) != wantErr || !strings.Contains(out, want) {
			t.Errorf("nftproxy %s: %v, %q; want %q", strings.Join(args, " "), err, out, want)
		}
	}
	expect(true, "nftproxy: this node has no table named nftproxy: is nftproxy running here?", "dump", "--kernel")
	expect(false, "removed 0 of the tables ip nftproxy and ip6 nftproxy", "cleanup")

	p := n.start("--metrics-bind-address", "0.0.0.0", "--ipvs-scheduler", "rr", "--proxy-mode", "ipvs") // without a port
	must(t, p.WaitSynced(n.ctx))
	if want := `"Flags were given that have no meaning here" flags="--proxy-mode"`; !strings.Contains(p.Log(), want) {
		t.Errorf("the log does not say %s:\n%s", want, p.Log())
	}
	expect(false, "tcp . 30080 : goto service/default/web/http", "dump", "--kernel")
	text, err := n.get("127.0.0.1:10249", "/metrics")
	must(t, err)
	for _, metric := range []string{"nftproxy_service_ports 2", "nftproxy_transaction_duration_seconds_count ", "go_goroutines", "go_sched_latencies_seconds_count ", "process_cpu_seconds_total"} {
		if !strings.Contains(text, "\n"+metric) {
			t.Errorf("/metrics has no %q", metric)
		}
	}
	for _, args := range []string{"cleanup", "run --cleanup"} {
		expect(true, fmt.Sprintf("nftproxy is running as process %d and would write its tables again", p.Pid()), strings.Fields(args)...)
	}
	must(t, p.Stop())
	expect(false, "chain service/default/web/http", "dump", "--kernel") // the rules stay
	expect(false, "removed 0 of", "run", "--cleanup", "--service-proxy-name", "other")
	expect(false, "removed 2 of the tables", "cleanup")
	expect(true, "no table named nftproxy", "dump", "--kernel")
	expect(false, "removed 0 of the tables ip nftproxy-mine and ip6 nftproxy-mine", "run", "--cleanup", "--service-proxy-name", "mine")
}
