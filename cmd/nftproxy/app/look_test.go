// SPDX-License-Identifier: Apache-2.0

package app

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/internal/golden"
)

// here is how the manifests of testdata/explain are looked at.
const here = " --manifests testdata/explain --hostname-override here --cluster-cidr 10.244.0.0/16"

// explained explains a target as JSON.
func explained(t *testing.T, args string) explain.Explanation {
	t.Helper()
	code, out, stderr := run(t, strings.Fields("explain -o json "+args+here)...)
	if code != 0 || stderr != "" {
		t.Fatalf("explain %s: exit code %d: %s", args, code, stderr)
	}
	var e explain.Explanation
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return e
}

// TestExplain: each row's outcome and its reason are known.
func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		name, args string
		frontend   string // of which the outcome is
		outcome    explain.Outcome
		to         []explain.To
		why        string
		endpoints  map[string]string // address: why it does not count
	}{
		{"no ready endpoint", "default/unready --from pod", "10.96.0.11:80", explain.Refused, nil, "none of the 2 endpoints can be used",
			map[string]string{"10.244.1.2:8080": "not ready", "10.244.2.2:8080": "terminating, and serving no more"}},
		{"the wrong zone", "default/zones:http --from pod", "10.96.0.12:80", explain.Answer, []explain.To{{Address: "10.244.1.3:8080"}}, "",
			map[string]string{"10.244.1.3:8080": "", "10.244.2.3:8080": "meant for zone b by its hints; this node is in zone a",
				"10.244.2.4:8080": "terminating: it counts only where no endpoint is ready"}},
		{"a port by its number", "default/zones:53 --from pod", "10.96.0.12:53", explain.Answer, []explain.To{{Address: "10.244.1.3:5353"}}, "", nil},
		{"a source range shuts the client out", "default/guarded --from 203.0.113.9", "10.200.0.13:443", explain.Timeout, nil,
			"203.0.113.9 is not in loadBalancerSourceRanges (198.51.100.0/24)", nil},
		{"a source range lets the client in, to this node's endpoint", "default/guarded --from 198.51.100.7", "10.200.0.13:443", explain.Answer,
			[]explain.To{{Address: "10.244.1.4:8443"}}, "",
			map[string]string{"10.244.1.4:8443": "", "10.244.2.5:8443": "not on this node, so not for externalTrafficPolicy Local"}},
		{"the node is not masqueraded away", "default/guarded --from node", "172.18.0.2:30443", explain.Answer,
			[]explain.To{{Address: "10.244.1.4:8443", Masqueraded: true}, {Address: "10.244.2.5:8443", Masqueraded: true}},
			"masqueraded: it comes from the node itself; pods and the node itself reach all endpoints under externalTrafficPolicy Local, too", nil},
		{"a hairpin", "default/zones:http --from 10.244.1.3", "10.96.0.12:80", explain.Answer, []explain.To{{Address: "10.244.1.3:8080", Masqueraded: true}},
			"masqueraded where an endpoint connects to itself", nil},
		{"from outside", "default/zones:http --from outside", "10.96.0.12:80", explain.Answer, []explain.To{{Address: "10.244.1.3:8080", Masqueraded: true}},
			"masqueraded: a connection to a ClusterIP from outside the pod network", nil},
		{"a pod by its name", "default/unready --from default/unready-a", "10.96.0.11:80", explain.Refused, nil, "none of the 2 endpoints", nil},
		{"internalTrafficPolicy Local", "default/older --from pod", "10.96.0.15:80", explain.Timeout, nil,
			"the traffic policy is Local, and no endpoint on this node can be used", map[string]string{"10.244.2.7:8080": "not on this node, so not for internalTrafficPolicy Local"}},
		{"affinity, nobody remembered", "default/sticky --from pod", "10.96.0.14:80", explain.Answer,
			[]explain.To{{Address: "10.244.1.5:8080"}, {Address: "10.244.2.6:8080"}}, "", nil},
		{"an address", "10.96.0.12:53/udp --from pod", "10.96.0.12:53", explain.Answer, []explain.To{{Address: "10.244.1.3:5353"}}, "", nil},
		{"a NodePort's address", "172.18.0.2:30443/tcp --from outside", "172.18.0.2:30443", explain.Answer, []explain.To{{Address: "10.244.1.4:8443"}}, "", nil},
		{"an address two Services have is the older one's", "10.201.0.1:80 --from outside", "10.201.0.1:80", explain.Answer,
			[]explain.To{{Address: "10.244.2.7:8080", Masqueraded: true}}, "masqueraded: under externalTrafficPolicy Cluster", nil},
		{"a port that the Service does not have", "10.96.0.12:81/tcp --from pod", "10.96.0.12:81", explain.Refused, nil, "the Service has no port 81/tcp", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := explained(t, tt.args)
			var got *explain.ClientView
			for _, f := range e.Ports[0].Frontends {
				if f.Address == tt.frontend {
					got = &f.Clients[0]
				}
			}
			if got == nil || len(e.Ports) != 1 {
				t.Fatalf("nothing is said of %s alone: %+v", tt.frontend, e.Ports)
			}
			if got.Outcome != tt.outcome || cmp.Diff(tt.to, got.To) != "" {
				t.Errorf("%s %v, want %s %v", got.Outcome, got.To, tt.outcome, tt.to)
			}
			if why := strings.Join(got.Why, "; "); !strings.Contains(why, tt.why) || (why == "") != (tt.why == "") {
				t.Errorf("the reason is %q, want %q", why, tt.why)
			}
			for _, ep := range e.Ports[0].Endpoints {
				if want, ok := tt.endpoints[ep.Address]; ok && ep.Why != want {
					t.Errorf("endpoint %s: %q, want %q", ep.Address, ep.Why, want)
				}
			}
			if len(tt.endpoints) > 0 && len(tt.endpoints) != len(e.Ports[0].Endpoints) {
				t.Errorf("%d endpoints, want %d: %+v", len(e.Ports[0].Endpoints), len(tt.endpoints), e.Ports[0].Endpoints)
			}
		})
	}
}

// TestExplainSharedAddress: pods on a node's network have its address, and each row of the endpoints its own pod.
func TestExplainSharedAddress(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "shared.yaml"), []byte(`
apiVersion: v1
kind: Service
metadata: {namespace: default, name: shared}
spec: {clusterIP: 10.96.0.20, ports: [{name: a, port: 80}, {name: b, port: 81}, {name: u, port: 80, protocol: UDP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: default, name: shared-1, labels: {kubernetes.io/service-name: shared}}
addressType: IPv4
ports: [{name: a, port: 8080}]
endpoints:
- {addresses: [172.18.0.3], nodeName: there, conditions: {ready: false, serving: true, terminating: true}, targetRef: {kind: Pod, name: goes}}
- {addresses: [172.18.0.3], nodeName: there, conditions: {ready: true}, targetRef: {kind: Pod, name: comes}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: default, name: shared-2, labels: {kubernetes.io/service-name: shared}}
addressType: IPv4
ports: [{name: b, port: 8081}, {name: c, port: 8080}, {name: u, port: 8080, protocol: UDP}]
endpoints:
- {addresses: [172.18.0.3], nodeName: there, conditions: {ready: true}, targetRef: {kind: Pod, name: other}}
`), 0o600))
	code, out, stderr := run(t, "explain", "-o", "json", "default/shared", "--manifests", dir, "--hostname-override", "here", "--from", "node")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var e explain.Explanation
	must(t, json.Unmarshal([]byte(out), &e))
	var got []string
	for _, p := range e.Ports {
		for _, ep := range p.Endpoints {
			got = append(got, fmt.Sprintf("%s/%s %s %s %v", p.Port, p.Protocol, ep.Address, ep.Pod, ep.Cluster))
		}
	}
	slices.Sort(got)
	want := []string{"a/tcp 172.18.0.3:8080 default/comes true", "a/tcp 172.18.0.3:8080 default/goes false",
		"b/tcp 172.18.0.3:8081 default/other true", "u/udp 172.18.0.3:8080 default/other true"}
	if !slices.Equal(got, want) {
		t.Errorf("the rows are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestExplainText shows explanations as they are read.
func TestExplainText(t *testing.T) {
	for _, name := range []string{"unready", "zones", "guarded", "sticky", "older"} {
		t.Run(name, func(t *testing.T) {
			code, out, stderr := run(t, strings.Fields("explain default/"+name+here+" --rules="+fmt.Sprint(name == "older"))...)
			if code != 0 || stderr != "" {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			out, kernel, _ := strings.Cut(out, "The kernel ")
			if !strings.HasPrefix(kernel, "was not compared: ") {
				t.Errorf("of the kernel it says %q", kernel)
			}
			golden.Check(t, filepath.Join("testdata", strings.ReplaceAll(t.Name(), "/", "_")+".txt"), out)
		})
	}
}

// TestBadInput: one line that says what is wrong, and exit code 2.
func TestBadInput(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "missing"))
	for _, tt := range []struct{ args, want string }{
		{"explain", "accepts 1 arg(s), received 0"},
		{"explain web" + here, "there is no Service default/web with a ClusterIP"},
		{"explain web -n shop" + here, "there is no Service shop/web with a ClusterIP"},
		{"explain a.b.c" + here, `"a.b.c" is neither NAMESPACE/NAME, NAMESPACE/NAME:PORT nor ADDRESS:PORT/PROTOCOL`},
		{"explain 10.97.0.1" + here, "no Service has the address 10.97.0.1"},
		{"explain default/web" + here, "there is no Service default/web with a ClusterIP"},
		{"explain shop/zones" + here, "there is no Service shop/zones with a ClusterIP: there is default/zones"},
		{"explain default/headless" + here, "service default/headless is headless"},
		{"explain default/zones:81" + here, `service default/zones has no port "81": it has dns (53/udp), http (80/tcp)`},
		{"explain 10.97.0.1:80/tcp" + here, "10.97.0.1:80/tcp is neither an address of a Service nor a NodePort on this node"},
		{"explain 10.96.7.7:80/tcp" + here, "connections to an address of the ServiceCIDR 10.96.0.0/16 that no Service has are dropped"},
		{"explain 127.0.0.1:30443" + here, "no rule serves NodePorts on loopback addresses"},
		{"explain 10.244.1.3:8080/tcp" + here, "10.244.1.3:8080/tcp is an endpoint of Service default/zones"},
		{"explain 10.96.0.12:80/icmp" + here, `"icmp" is none of tcp, udp, sctp`},
		{"explain default/zones --from default/nobody" + here, "--from: pod default/nobody is no endpoint of a Service here: give its address"},
		{"explain default/zones --from elsewhere" + here, "--from: Node elsewhere is not known here: give its address"},
		{"explain default/zones --from pod --manifests testdata/explain --hostname-override here", "--from: nothing tells where pods are"},
		{"explain default/zones --from fd00::7" + here, "no client has an address in the families of default/zones"},
		{"explain default/zones -o yaml" + here, `--output: "yaml" is neither text nor json`},
		{"explain default/zones", "no source of Services: unable to load in-cluster configuration"},
		{"explain default/zones --fly", "unknown flag: --fly"},
		{"dump now", `unknown command "now"`},
		{"dump -o xml" + here, `--output: "xml" is none of nft, json, yaml`},
		{"dump --family inet" + here, `--family: "inet" is neither ip nor ip6`},
		{"dump --service web" + here, `--service: "web" is not a Service`},
		{"dump --service default/web" + here, "there is no Service default/web with a ClusterIP in testdata/explain"},
		{"diff -o yaml" + here, `--output: "yaml" is neither text nor json`},
		{"diff", "no source of Services: unable to load in-cluster configuration"},
		{"diff --manifests missing", "missing: no such file or directory"},
		{"trace --proto icmp", `--proto: "icmp" is none of tcp, udp, sctp`},
		{"trace --from nowhere", `--from: "nowhere" is neither an address nor a CIDR`},
		{"trace --to web", `--to: "web" is neither an address nor a CIDR`},
		{"trace --for -1s", "--for: -1s is below 0"},
		{"trace -o yaml", `--output: "yaml" is neither text nor json`},
		{"trace --to demo/web", "--to: demo/web: the kernel alone does not know"},
		{"trace now", `unknown command "now"`},
		{"top --interval 0s", "--interval: 0s is not above 0"},
		{"top --rows 0", "--rows: 0 is below 1"},
		{"top --sort age", `--sort: "age" is none of new, open, bytes or name`},
		{"top -o yaml", `--output: "yaml" is neither text nor json`},
		{"top --fly", "unknown flag: --fly"},
		{"check -y --manifests testdata/services", "--yes answers what --fix asks: give both"},
		{"check --manifests x --kubeconfig y", "--manifests goes with neither --kubeconfig nor --master"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			code, stdout, stderr := run(t, strings.Fields(tt.args)...)
			if code != 2 || stdout != "" || !strings.HasPrefix(stderr, "nftproxy: ") || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, tt.want) {
				t.Errorf("exit code %d, output %q, errors %q; want 2, nothing, and a line with %q", code, stdout, stderr, tt.want)
			}
		})
	}
}

// TestDumpService prints what one Service has, with comments.
func TestDumpService(t *testing.T) {
	for _, name := range []string{"guarded", "sticky", "unready"} {
		t.Run(name, func(t *testing.T) {
			code, out, stderr := run(t, strings.Fields("dump --service default/"+name+here)...)
			if code != 0 || stderr != "" {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			for _, other := range []string{"zones", "older", "10.96.0.12", "10.244.1.3"} {
				if strings.Contains(out, other) {
					t.Errorf("it has %q of another Service", other)
				}
			}
			golden.Check(t, filepath.Join("testdata", strings.ReplaceAll(t.Name(), "/", "_")+".nft"), out)
		})
	}
}

// TestDumpFormats: JSON and YAML are one document, and a family is one table of it.
func TestDumpFormats(t *testing.T) {
	dump := func(args string, decode func([]byte, any) error) map[string]any {
		t.Helper()
		code, out, stderr := run(t, strings.Fields("dump "+args+here)...)
		if code != 0 || stderr != "" {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		var document map[string]any
		if err := decode([]byte(out), &document); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(document) // numbers are of other types in YAML
		if err != nil {
			t.Fatal(err)
		}
		var same map[string]any
		if err := json.Unmarshal(text, &same); err != nil {
			t.Fatal(err)
		}
		return same
	}
	fromJSON := dump("-o json", json.Unmarshal)
	if diff := cmp.Diff(fromJSON, dump("-o yaml", yaml.Unmarshal)); diff != "" {
		t.Errorf("YAML differs from JSON (-json +yaml):\n%s", diff)
	}
	tables := func(document map[string]any) (families []string) {
		for _, o := range document["nftables"].([]any) {
			if table, ok := o.(map[string]any)["table"].(map[string]any); ok {
				families = append(families, table["family"].(string))
			}
		}
		return families
	}
	if got := tables(fromJSON); cmp.Diff([]string{"ip", "ip6"}, got) != "" {
		t.Errorf("tables %s", got)
	}
	if got := tables(dump("-o json --family ip6", json.Unmarshal)); cmp.Diff([]string{"ip6"}, got) != "" {
		t.Errorf("with --family ip6 tables %s", got)
	}
}

// TestNames: the program is a plugin of kubectl under another name, and completes
// words for shells.
func TestNames(t *testing.T) {
	args := os.Args
	defer func() { os.Args = args }()
	os.Args = []string{"/usr/local/bin/kubectl-nftproxy"}
	if _, out, _ := run(t, "explain", "--help"); !strings.Contains(out, "kubectl nftproxy explain SERVICE") {
		t.Errorf("as a plugin of kubectl its help is\n%s", out)
	}
	os.Args = args
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code, out, _ := run(t, "completion", shell); code != 0 || !strings.Contains(out, "nftproxy") {
			t.Errorf("completion %s: exit code %d, %d bytes", shell, code, len(out))
		}
	}
	for line, want := range map[string]string{
		"dump -o ": "yaml", "explain" + here + " def": "default/zones", "explain default/zones --from ": "outside",
	} {
		words := strings.Split("__complete "+line, " ")
		if code, out, _ := run(t, words...); code != 0 || !strings.Contains("\n"+out, "\n"+want+"\n") {
			t.Errorf("completion of %q: exit code %d: %s", line, code, out)
		}
	}
}

// TestTerminal: colours and progress are for terminals, and NO_COLOR is heeded.
func TestTerminal(t *testing.T) {
	explain := func(t *testing.T) (stdout, stderr string) {
		out, err := newTerminal(t), newTerminal(t)
		if code := Run(t.Context(), "v1.2.3", strings.Fields("explain default/unready"+here), out.file, err.file); code != 0 {
			t.Errorf("exit code %d", code)
		}
		return out.text(), err.text()
	}
	t.Run("colours", func(t *testing.T) {
		t.Setenv("NO_COLOR", "")
		stdout, stderr := explain(t)
		if !strings.Contains(stdout, "\x1b[31mrefused\x1b[0m") {
			t.Errorf("on a terminal it is not red that a connection is refused: %q", stdout)
		}
		if !strings.Contains(stderr, "nftproxy: reading Services and EndpointSlices from testdata/explain ...\r\x1b[K") {
			t.Errorf("no progress is shown and wiped out: %q", stderr)
		}
	})
	t.Run("NO_COLOR", func(t *testing.T) {
		t.Setenv("NO_COLOR", "1")
		if stdout, _ := explain(t); strings.Contains(stdout, "\x1b") || !strings.Contains(stdout, "refused") {
			t.Errorf("with NO_COLOR it is %q", stdout)
		}
	})
}

// terminal is a pseudo-terminal that a command writes to.
type terminal struct {
	file *os.File
	read chan string
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("there are no pseudo-terminals: %v", err)
	}
	fd := int(screen.Fd())
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := &terminal{file: file, read: make(chan string, 1)}
	go func() {
		text, _ := io.ReadAll(screen) // ends with EIO when nobody has the other side
		_ = screen.Close()
		out.read <- string(text)
	}()
	t.Cleanup(func() { _ = file.Close() })
	return out
}

// text closes the terminal and returns what was written to it.
func (t *terminal) text() string {
	_ = t.file.Close()
	return <-t.read
}

// TestExplainSCTPWithoutEndpoints: over IPv4 clients are refused at once; over IPv6 they hear nothing that they heed.
func TestExplainSCTPWithoutEndpoints(t *testing.T) {
	dir := t.TempDir()
	service := `{apiVersion: v1, kind: Service, metadata: {namespace: default, name: sig}, spec: {clusterIP: 10.96.0.7,
  clusterIPs: [10.96.0.7, "fd00:10:96::7"], ipFamilies: [IPv4, IPv6], ports: [{port: 2905, protocol: SCTP}]}}`
	if err := os.WriteFile(filepath.Join(dir, "sig.yaml"), []byte(service), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, stderr := run(t, "explain", "default/sig", "--from", "pod", "--manifests", dir, "--hostname-override", "here",
		"--cluster-cidr", "10.244.0.0/16,fd00:10:244::/48")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	_, v4, _ := strings.Cut(out, "ClusterIP 10.96.0.7:2905")
	v4, v6, found := strings.Cut(v4, "ClusterIP [fd00:10:96::7]:2905")
	if !found || !strings.Contains(v4, "from a pod: refused at once") || strings.Contains(v4, "no notice") {
		t.Errorf("IPv4: want refused at once, got:\n%s", out)
	}
	if !strings.Contains(v6, "from a pod: refused by an ICMPv6 message that SCTP takes no notice of") {
		t.Errorf("IPv6: want that clients take no notice, got:\n%s", out)
	}
}
