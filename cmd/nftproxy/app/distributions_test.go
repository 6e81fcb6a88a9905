// SPDX-License-Identifier: Apache-2.0

package app

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// distribution is how a distribution of Kubernetes runs kube-proxy. $(NODE_NAME) stands for the node's name, as in a pod.
type distribution struct {
	Args       []string `json:"args"`
	Config     string   `json:"config"`     // the content of the file that --config names
	ConfigFile string   `json:"configFile"` // or the path of it
	Want       struct {
		Ranges      []netip.Prefix `json:"ranges"`      // of pods; none: nobody is masqueraded
		Healthz     string         `json:"healthz"`     // where it answers, if not at port 10256 of 127.0.0.1
		Meaningless []string       `json:"meaningless"` // what the log says of fields that have no meaning
	} `json:"want"`
}

// distributions returns those of testdata by name.
func distributions(t *testing.T) map[string]distribution {
	t.Helper()
	files, err := filepath.Glob("testdata/distributions/*.yaml")
	must(t, err)
	out := map[string]distribution{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		var d distribution
		if err := yaml.UnmarshalStrict(text, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if d.ConfigFile != "" {
			text, err := os.ReadFile(d.ConfigFile)
			must(t, err)
			d.Config = string(text)
		}
		out[strings.TrimSuffix(filepath.Base(file), ".yaml")] = d
	}
	return out
}

// TestDistributions: nftproxy runs with the command lines and configurations that distributions give kube-proxy, as they are.
func TestDistributions(t *testing.T) {
	for name, d := range distributions(t) {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			p := d.start(t, n)
			must(t, p.WaitSynced(n.ctx))
			healthz := d.Want.Healthz
			if healthz == "" {
				healthz = "127.0.0.1:10256"
			}
			if body, err := n.get(healthz, "/healthz"); err != nil {
				t.Errorf("/healthz: %s, %v", body, err)
			}
			got, err := n.run("dump", "--kernel")
			must(t, err)
			for _, r := range d.Want.Ranges {
				if !strings.Contains(got, " saddr != "+r.String()+" ") {
					t.Errorf("who comes from outside of %s is not masqueraded:\n%s", r, got)
				}
			}
			if ranges := strings.Count(got, " saddr != "); (ranges > 0) != (len(d.Want.Ranges) > 0) {
				t.Errorf("%d rules masquerade what comes from outside of a range, want %s", ranges, d.Want.Ranges)
			}
			must(t, p.Stop())
			for _, want := range d.Want.Meaningless {
				if !strings.Contains(strings.ReplaceAll(p.Log(), `\"`, `"`), want) {
					t.Errorf("the log does not tell of %s:\n%s", want, p.Log())
				}
			}
		})
	}
}

// start runs nftproxy with the distribution's command line, in which only the API server and the paths of files are others.
func (d *distribution) start(t *testing.T, n *node) *proxy.Process {
	t.Helper()
	kubeconfig := serveAPI(t, n.NS, "testdata/distributions/objects", "")
	text, err := os.ReadFile(kubeconfig)
	must(t, err)
	server := regexp.MustCompile(`http://[0-9.:]+`).FindString(string(text))
	file := filepath.Join(t.TempDir(), "config.conf")
	config := regexp.MustCompile(`(?m)^(\s*kubeconfig:) .*$`).ReplaceAllString(d.Config, "$1 "+kubeconfig)
	must(t, os.WriteFile(file, []byte(config), 0o600))
	args := []string{"run"}
	for _, arg := range d.Args {
		flag, value, _ := strings.Cut(strings.ReplaceAll(arg, "$(NODE_NAME)", "node-1"), "=")
		switch flag {
		case "--config":
			value = file
		case "--kubeconfig":
			value = kubeconfig
		case "--master":
			value = server
		}
		args = append(args, flag+"="+value)
	}
	if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--hostname-override=") }) {
		args = append(args, "--hostname-override=node-1") // it is the machine's name there
	}
	p, err := proxy.Start(n.command(args...))
	must(t, err)
	t.Cleanup(p.Kill)
	return p
}

// TestDistributionsPage: docs/distributions.md tells of each distribution whose command line is tested.
func TestDistributionsPage(t *testing.T) {
	page := strings.ToLower(documents(t)["docs/distributions.md"])
	for name := range distributions(t) {
		name, _, _ = strings.Cut(name, "-")
		if !strings.Contains(page, "\n## "+name) {
			t.Errorf("docs/distributions.md has no section for %s", name)
		}
	}
}
