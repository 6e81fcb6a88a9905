// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

// command is the first words of a line that a page has somebody type, and the test that runs it, or does the same without the
// program, which is not here. Of lines that two fit the first counts.
type command struct {
	page  string // a regular expression; empty: any page
	words string // a regular expression
	test  string // "" says that none can here, and why says why
	in    string // the folder of the test
	why   string
}

func typedCommands() []command {
	const app, cluster = "cmd/nftproxy/app", "e2e/cluster"
	return []command{
		{words: `(\S*/)?nftproxy `, test: "TestDocumentedCommands", in: app},
		{words: `kubectl nftproxy `, test: "TestDocumentedCommands", in: app},
		{words: `make `, test: "TestDocumentedTargets", in: app},
		{page: `README.md`, words: `unshare |mkdir |cat >|ip |for ip |done$`, test: "TestQuickStart", in: app},
		{page: `docs/api.md`, words: `curl --unix-socket `, test: "TestDocumentedPaths", in: app},
		{page: `docs/failover.md`, words: `kubectl annotate `, test: "TestFailoverOff", in: "proxier"},
		{page: `deploy/README.md`, words: `install |systemctl `, test: "TestService", in: app},
		{page: `deploy/README.md`, words: `docker `, test: "TestDockerfile", in: "e2e/image"},
		{page: `docs/versioning.md`, words: `sha256sum `, test: "TestPack", in: "deploy/release"},
		{page: `docs/versioning.md`, words: `gh attestation verify `, why: "GitHub attests"},
		{words: `helm install nftproxy deploy/chart `, test: "TestDistributions", in: "e2e/chart"},
		{words: `helm |kubectl .*rollout status daemonset nftproxy|kubectl apply -f deploy/nftproxy.yaml`, test: "TestCluster", in: cluster},
		{page: `deploy/README.md`, words: `kubectl -n kube-system (get pods|logs|exec daemonset/nftproxy) `, test: "TestCluster", in: cluster},
		{page: `deploy/README.md`, words: `kubectl |NODE=|POD=|for node |until kubectl |do sleep |done$|--set |--build-arg `, test: "TestMigration", in: "e2e/controlplane"},
	}
}

// startsCommand is how a line begins that somebody types, and not one that a program prints.
var startsCommand = regexp.MustCompile(`^(sudo )?(kubectl|helm|make|docker|systemctl|install|nft|ip|sysctl|kubeadm|curl|aws|gh|sha256sum|k3s|minikube|kind|talosctl|kops|conntrack|ssh|openssl|ctr|podman|unshare|mkdir|cat|bin/nftproxy|nftproxy|dpkg|rpm|apt|apt-get|dnf|journalctl|cosign|go|git|krew|cilium|cilium-dbg|firewall-cmd|ipvsadm|iptables) \S`)

// TestTypedCommands: what a page has somebody type is run by a test, or has a reason why not. A new kind of command is a row of typedCommands.
func TestTypedCommands(t *testing.T) {
	for _, c := range typedCommands() {
		if c.test == "" && c.why != "" {
			continue
		}
		files, err := filepath.Glob(filepath.Join("../../..", c.in, "*_test.go"))
		must(t, err)
		found := false
		for _, f := range files {
			text, err := os.ReadFile(f)
			must(t, err)
			found = found || strings.Contains(string(text), "\nfunc "+c.test+"(t *testing.T)")
		}
		if !found {
			t.Errorf("there is no %s in %s, which is to run %q", c.test, c.in, c.words)
		}
	}
	lines := 0
	for page, text := range documents(t) {
		if strings.Contains(text, " --reuse-values") {
			t.Errorf("%s: with --reuse-values the image of the old chart stays: --reset-then-reuse-values", page)
		}
		if page == "CONTRIBUTING.md" { // its list of folders has words of such programs
			continue
		}
		for line := range strings.Lines(text) {
			typed, indented := strings.CutPrefix(strings.TrimRight(line, "\n"), "    ")
			typed = strings.TrimPrefix(strings.TrimPrefix(typed, "$ "), "# ")
			if !indented || !startsCommand.MatchString(typed) || printed(typed) {
				continue
			}
			lines++
			if !known(page, typed) {
				t.Errorf("%s: no test runs %q: name one in typedCommands, or say why there is none", page, typed)
			}
		}
	}
	if lines < 60 {
		t.Errorf("%d commands: they are not found", lines)
	}
}

// printed says whether a line is what a program prints, rules in nft's syntax among them.
func printed(line string) bool {
	return regexp.MustCompile(`^(ip6? (daddr|saddr|nftproxy)|nftproxy (is|has) )`).MatchString(line)
}

func known(page, line string) bool {
	for _, c := range typedCommands() {
		if regexp.MustCompile(`^`+c.page+`$`).MatchString(page) || c.page == "" {
			if regexp.MustCompile(`^(` + c.words + `)`).MatchString(line) {
				return true
			}
		}
	}
	return false
}

// TestDocumentedTargets: each target and variable of make that a page names is one of the Makefile's.
func TestDocumentedTargets(t *testing.T) {
	data, err := os.ReadFile("../../../Makefile")
	must(t, err)
	makefile, named := string(data), 0
	in := regexp.MustCompile("(?m)(?:`|^    )make ((?:[a-z0-9-]+ ?|[A-Z_]+=(?:'[^']*'|[^ `\n]*) ?)+)")
	for page, text := range documents(t) {
		for _, m := range in.FindAllStringSubmatch(text, -1) {
			for _, word := range regexp.MustCompile(`[A-Z_]+=(?:'[^']*'|\S*)|[a-z0-9-]+`).FindAllString(m[1], -1) {
				named++
				name, _, variable := strings.Cut(word, "=")
				if variable && !regexp.MustCompile(`(?m)^(?:[a-z-]+: )?`+name+` +[?:]?= |\$\(`+name+`\)|\$\(if \$\(`+name+`\)`).MatchString(makefile) || !variable && !strings.Contains(makefile, "\n"+name+":") {
					t.Errorf("%s: make %s: the Makefile has no %s", page, strings.TrimSpace(m[1]), name)
				}
			}
		}
	}
	if named < 40 {
		t.Errorf("%d targets: they are not found", named)
	}
}

// typedBelow returns the indented lines below a heading of a page.
func typedBelow(t *testing.T, page, heading string) string {
	t.Helper()
	_, section, ok := strings.Cut(documents(t)[page], "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("%s has no heading %q", page, heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var out strings.Builder
	for line := range strings.Lines(section) {
		if text, ok := strings.CutPrefix(line, "    "); ok {
			out.WriteString(text)
		}
	}
	return out.String()
}

// TestQuickStart runs what the README has somebody type first, as it is but for its folders, and for waiting until it works in place of 2 s.
func TestQuickStart(t *testing.T) {
	netnstest.Tool(t, "unshare")
	for _, tool := range []string{"python3", "curl", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("no " + tool + " here")
		}
	}
	script, prints, ok := strings.Cut(typedBelow(t, "README.md", "Quick start, without a cluster"), "kill $(jobs -p)'\n")
	if !ok {
		t.Fatal("the quick start does not end its processes")
	}
	dir := t.TempDir()
	self, err := os.Executable()
	must(t, err)
	program := filepath.Join(dir, "nftproxy")
	must(t, os.Symlink(self, program))
	for old, replacement := range map[string]string{
		"make build\n": "", "/tmp/services": dir + "/services", "/tmp/web": dir + "/web", "bin/nftproxy": program,
		"sleep 2\n":              "until curl -s http://10.96.0.10/ >/dev/null; do sleep 0.1; done\n",
		"--metrics-bind-address": "--socket " + dir + "/x.sock --metrics-bind-address",
	} {
		if !strings.Contains(script, old) {
			t.Errorf("the quick start has no %q any more", old)
		}
		script = strings.ReplaceAll(script, old, replacement)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script+"kill $(jobs -p); wait'\n")
	cmd.Env = append(os.Environ(), runEnv+"=1")
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.Output()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	got := string(out)
	answers := regexp.MustCompile(`I am (10\.1\.0\.\d)\n`).FindAllStringSubmatch(got, -1)
	if len(answers) != 4 || answers[0][1] == answers[1][1] || answers[0][1] != answers[2][1] || answers[1][1] != answers[3][1] {
		t.Errorf("no round robin over two (%v):\n%s", err, got)
	}
	// The README's own lines, but for the map's number and the offsets, which depend on the node's name.
	numbers := regexp.MustCompile(`offset \d+|endpoints-[0-9a-f]+`)
	for line := range strings.Lines(prints) {
		if want := numbers.ReplaceAllString(strings.TrimSpace(line), "N"); want != "" && !strings.HasPrefix(want, "I am") &&
			!strings.HasPrefix(want, program) && !strings.Contains(numbers.ReplaceAllString(got, "N"), want) {
			t.Errorf("it does not print %q:\n%s", want, got)
		}
	}
}

// TestDocumentedPaths: the questions of docs/api.md are answered.
func TestDocumentedPaths(t *testing.T) {
	paths := regexp.MustCompile(`(?m)^    # curl --unix-socket \S+ (http://nftproxy/\S+)$`).FindAllStringSubmatch(documents(t)["docs/api.md"], -1)
	if len(paths) < 4 {
		t.Fatalf("docs/api.md has %d questions", len(paths))
	}
	n := newNode(t)
	socket := filepath.Join(t.TempDir(), "nftproxy.sock")
	p := n.start("--socket", socket, "-v=1")
	must(t, errors.Join(p.WaitSynced(n.ctx), p.WaitLog(n.ctx, "Commands can ask")))
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	for _, path := range paths {
		request, err := http.NewRequestWithContext(n.ctx, http.MethodGet, path[1], nil)
		must(t, err)
		answer, err := client.Do(request)
		must(t, err)
		body, err := io.ReadAll(answer.Body)
		must(t, errors.Join(err, answer.Body.Close()))
		if answer.StatusCode != http.StatusOK || len(body) < 20 {
			t.Errorf("%s: %s: %s", path[1], answer.Status, body)
		}
	}
}
