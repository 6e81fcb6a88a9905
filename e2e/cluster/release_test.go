// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// releaseEnv is the folder of the release that `make e2e-release` packs of this checkout.
const releaseEnv = "NFTPROXY_RELEASE"

// What that release says of itself. No node could pull its image.
const (
	releaseVersion = "v0.0.0-e2e"
	releaseImage   = "registry.test/e2e/nftproxy"
)

// TestRelease: the chart of a release takes the place of deploy/nftproxy.yaml, under traffic.
func TestRelease(t *testing.T) {
	if os.Getenv(releaseEnv) == "" {
		t.Skip("make e2e-release runs it, and packs the release")
	}
	s := newSite(t, 2)
	s.install()
	s.openShop()
	s.want()
	s.takeRelease()
}

// takeRelease goes from deploy/nftproxy.yaml to the chart of a release, and through an upgrade and the way back, with Helm and kubectl,
// by the commands of the documents.
func (s *site) takeRelease() {
	for _, n := range s.living() { // without --local the digest is that of the archive's own index, not the image's
		out, err := n.ctr("images", "import", "--local", "--digests", "--base-name", releaseImage, filepath.Join(os.Getenv(releaseEnv), "nftproxy-image.tar"))
		if err != nil {
			s.t.Fatalf("import the release's image on %s: %v\n%s", n.Name(), err, out)
		}
	}
	s.under("going over to the chart of a release", func() {
		s.shell("kubectl -n kube-system delete daemonset nftproxy\n" + // as under 'Go back' in deploy/README.md: the rules stay
			"kubectl -n kube-system wait --for=delete pod -l app.kubernetes.io/name=nftproxy --timeout=5m\n" +
			"kubectl delete -f deploy/nftproxy.yaml --ignore-not-found\n")
		s.typed("deploy/README.md", "From a release", nil)
		s.waitNftproxy()
	})
	s.wantReleased()
	s.want()
	s.verify()
	s.typed("deploy/README.md", "Verify", nil)

	s.under("helm upgrade", func() {
		s.typed("docs/operations.md", "Upgrade", map[string]string{"--reset-then-reuse-values": "--reset-then-reuse-values --set logLevel=1"})
	})
	s.wantReleased("--v=1")
	s.under("helm rollback", func() { s.typed("docs/operations.md", "Roll back", nil) })
	s.wantReleased()
	s.want()
	s.verify()
}

// wantReleased: what runs on each node is the release's image, named by its digest, with arguments that it has besides the usual ones.
func (s *site) wantReleased(args ...string) {
	s.t.Helper()
	pods, err := s.Client().CoreV1().Pods("kube-system").List(s.t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=nftproxy"})
	must(s.t, err)
	for _, p := range pods.Items {
		if image := p.Spec.Containers[0].Image; p.DeletionTimestamp == nil && !strings.HasPrefix(image, releaseImage+"@sha256:") {
			s.t.Errorf("%s runs image %s, not the release's by its digest", p.Name, image)
		}
	}
	for node, a := range s.inNftproxy("version") {
		if a.err != nil || !strings.Contains(a.text, releaseVersion) {
			s.t.Errorf("nftproxy on %s is %q (%v), want %s", node, a.text, a.err, releaseVersion)
		}
	}
	for _, n := range s.living() {
		_, line := s.nftproxy(n)
		if verbose := strings.Contains(line, "\x00--v="); verbose != (len(args) > 0) {
			s.t.Errorf("nftproxy on %s runs as %q", n.Name(), line)
		}
		for _, arg := range args {
			if !strings.Contains(line, "\x00"+arg+"\x00") {
				s.t.Errorf("nftproxy on %s runs as %q, without %s", n.Name(), line, arg)
			}
		}
	}
}

// typed runs the commands below a heading of a page, as somebody who follows it, and has the release's archive and this cluster's addresses.
func (s *site) typed(page, heading string, more map[string]string) {
	s.t.Helper()
	script := commands(s.edited(page, nil), heading)
	if script == "" {
		s.t.Fatalf("%s has no commands below the heading %q", page, heading)
	}
	charts, err := filepath.Glob(filepath.Join(os.Getenv(releaseEnv), "nftproxy-*.tgz"))
	must(s.t, err)
	if len(charts) != 1 {
		s.t.Fatalf("%s has the charts %q, want one", os.Getenv(releaseEnv), charts)
	}
	chart := charts[0]
	api := s.Address()
	all := []string{"nftproxy-0.1.0.tgz", chart, "nftproxy-0.2.0.tgz", chart,
		"clusterCIDR={10.244.0.0/16,fd00:10:244::/56}", "clusterCIDR={" + netns.ClusterCIDR4 + "," + netns.ClusterCIDR6 + "}",
		"apiServer.host=10.0.0.1", fmt.Sprintf("apiServer.host=%s --set apiServer.port=%d", api.Addr(), api.Port())}
	for old, replacement := range more {
		all = append(all, old, replacement)
	}
	s.shell(strings.NewReplacer(all...).Replace(script))
}

// commands returns the indented lines below a heading, up to the next one.
func commands(text, heading string) string {
	_, section, ok := strings.Cut(text, "# "+heading+"\n")
	if !ok {
		return ""
	}
	section, _, _ = strings.Cut(section, "\n#")
	var script strings.Builder
	for line := range strings.Lines(section) {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			script.WriteString(command)
		}
	}
	return script.String()
}

// shell runs a script at the root of the checkout, outside the nodes, with kubectl and Helm for this cluster, and stops at the first command
// that fails.
func (s *site) shell(script string) {
	s.t.Helper()
	bin, err := filepath.Abs(filepath.Join(repository, "bin/cluster"))
	must(s.t, err)
	home := s.t.TempDir()
	cmd := exec.CommandContext(s.t.Context(), "bash", "-euxo", "pipefail", "-c", script)
	cmd.Dir = repository
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.Kubeconfig(), "HOME="+home, "PATH="+bin+":"+os.Getenv("PATH"))
	var out []byte
	if err := s.Network.Outside.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err }); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	s.t.Logf("%s", out)
}
