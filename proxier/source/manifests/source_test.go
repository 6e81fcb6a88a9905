// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/proxier/source"
	"github.com/nftproxy/nftproxy/proxier/source/sourcetest"
)

func service(name, ip string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata:\n  name: %s\nspec:\n  clusterIP: %s\n  ports:\n  - port: 80\n", name, ip)
}

func slice(name, service, address string) string {
	return fmt.Sprintf(`apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: %s
  labels:
    kubernetes.io/service-name: %s
addressType: IPv4
ports:
- port: 8080
endpoints:
- addresses: [%s]
`, name, service, address)
}

func serviceCIDR(name, cidrs string) string {
	return fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata:\n  name: %s\nspec:\n  cidrs: [%s]\n", name, cidrs)
}

func docs(d ...string) string { return strings.Join(d, "---\n") }

// write replaces a file in one step.
func write(t *testing.T, dir, name, content string) {
	t.Helper()
	temporary := filepath.Join(dir, "."+name+".tmp")
	must(t, os.WriteFile(temporary, []byte(content), 0o600))
	must(t, os.Rename(temporary, filepath.Join(dir, name)))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// following starts a Source on a directory with these files (name, content, name, content...).
func following(t *testing.T, files ...string) (dir string, r *sourcetest.Recorder) {
	t.Helper()
	dir = t.TempDir()
	for i := 0; i < len(files); i += 2 {
		write(t, dir, files[i], files[i+1])
	}
	r = sourcetest.New(t)
	sourcetest.Run(r, Source{Dir: dir, Warn: r.Warn}.Run)
	return dir, r
}

func TestFollowsChanges(t *testing.T) {
	t.Parallel()
	node := "apiVersion: v1\nkind: Node\nmetadata:\n  name: n1\n"
	dir, r := following(t,
		"web.yaml", docs(service("web", "10.0.0.1"), slice("web-1", "web", "10.1.0.1")),
		"api.json", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"api"},"spec":{"clusterIP":"10.0.0.2"}}`,
		"node.yml", node,
		"cidr.yml", serviceCIDR("kubernetes", "10.96.0.0/16, fd00::/108"),
		".hidden.yaml", "not a manifest: [",
		"notes.txt", "not a manifest: [",
	)
	r.Expect("nodes [n1]", "cidrs [kubernetes]", "services [default/api default/web]", "slices [default/web-1]")

	// Only what differs is told: the slice, not the service of the same file.
	write(t, dir, "web.yaml", docs(service("web", "10.0.0.1"), slice("web-1", "web", "10.1.0.2")))
	r.Expect("slice default/web-1 [10.1.0.2]")

	// A write in place, in two steps.
	f, err := os.OpenFile(filepath.Join(dir, "new.yaml"), os.O_CREATE|os.O_WRONLY, 0o600)
	must(t, err)
	_, err = f.WriteString(docs(service("new", "10.0.0.3"), ""))
	must(t, err)
	_, err = f.WriteString(slice("new-1", "new", "10.1.0.3"))
	must(t, err)
	must(t, f.Close())
	r.Expect("service default/new 10.0.0.3", "slice default/new-1 [10.1.0.3]")

	// An address moves from one service to another: what goes is told first.
	write(t, dir, "web.yaml", service("other", "10.0.0.1"))
	r.Expect("delete service default/web", "delete slice default/web-1", "service default/other 10.0.0.1")

	must(t, os.Remove(filepath.Join(dir, "node.yml")))
	r.Expect("delete node n1")

	write(t, dir, "cidr.yml", serviceCIDR("kubernetes", "10.96.0.0/12"))
	r.Expect("cidr kubernetes [10.96.0.0/12]")
	must(t, os.Remove(filepath.Join(dir, "cidr.yml")))
	r.Expect("delete cidr kubernetes")

	// A different text of the same objects is no change; the next call is the next real change.
	write(t, dir, "web.yaml", "# a comment\n"+service("other", "10.0.0.1"))
	must(t, os.Rename(filepath.Join(dir, "new.yaml"), filepath.Join(dir, "renamed.yaml")))
	write(t, dir, "last.yaml", service("last", "10.0.0.9"))
	r.Expect("service default/last 10.0.0.9")
	r.ExpectWarnings()
}

func TestBrokenFileKeepsItsLastGoodState(t *testing.T) {
	t.Parallel()
	dir, r := following(t,
		"a.yaml", docs(service("a1", "10.0.0.1"), service("a2", "10.0.0.2")),
		"bad.yaml", docs(service("good", "10.0.0.3"), "kind: Service\n"),
	)
	r.Expect("nodes []", "cidrs []", "services [default/a1 default/a2]", "slices []")
	r.ExpectWarnings("bad.yaml:10: apiVersion is missing")

	// One bad document: nothing of the file is applied, not even its good new one.
	write(t, dir, "a.yaml", docs(service("a1", "10.0.0.7"), service("a2", "wrong"), service("a3", "10.0.0.8")))
	r.ExpectWarnings(`a.yaml:15: spec.clusterIP: "wrong" is not an IP address`)
	// An empty file is what a redirection leaves until the program writes.
	must(t, os.WriteFile(filepath.Join(dir, "a.yaml"), nil, 0o600))
	r.ExpectWarnings("a.yaml: is empty; its last good objects stay (remove the file to remove them)")
	// Everything else goes on.
	write(t, dir, "b.yaml", service("b", "10.0.0.4"))
	r.Expect("service default/b 10.0.0.4")

	write(t, dir, "a.yaml", docs(service("a1", "10.0.0.7"), "# no object here\n"))
	r.Expect("delete service default/a2", "service default/a1 10.0.0.7")
	write(t, dir, "bad.yaml", service("good", "10.0.0.3"))
	r.Expect("service default/good 10.0.0.3")

	must(t, os.Remove(filepath.Join(dir, "b.yaml")))
	must(t, os.Symlink("nowhere", filepath.Join(dir, "b.yaml")))
	r.ExpectWarnings("b.yaml: a symbolic link to nowhere, which does not exist")
	must(t, os.Remove(filepath.Join(dir, "b.yaml")))
	r.Expect("delete service default/b")
	r.ExpectWarnings()
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	dir, r := following(t,
		"b.yaml", service("web", "10.0.0.2"),
		"c.yaml", docs("# nothing\n", service("web", "10.0.0.3")),
	)
	r.Expect("nodes []", "cidrs []", "services [default/web]", "slices []")
	const rest = ", and the first file by name wins; this definition is unused until that one is gone"
	r.ExpectWarnings("c.yaml:3: Service default/web is already defined in b.yaml:1" + rest)

	// The loser changes: no call, no second message.
	write(t, dir, "c.yaml", service("web", "10.0.0.4"))
	// A file of an earlier name takes the object over.
	write(t, dir, "a.yaml", service("web", "10.0.0.1"))
	r.Expect("service default/web 10.0.0.1")
	r.ExpectWarnings("b.yaml:1: Service default/web is already defined in a.yaml:1" + rest)

	must(t, os.Remove(filepath.Join(dir, "a.yaml")))
	r.Expect("service default/web 10.0.0.2")
	// A winner that breaks stays the winner.
	write(t, dir, "b.yaml", "x")
	r.ExpectWarnings(`b.yaml:1: want a Kubernetes object, found "x"`)
	must(t, os.Remove(filepath.Join(dir, "b.yaml")))
	r.Expect("service default/web 10.0.0.4")
	must(t, os.Remove(filepath.Join(dir, "c.yaml")))
	r.Expect("delete service default/web")
	r.ExpectWarnings()
}

// A ConfigMap volume: files are links through ..data, which is swapped in one step.
func TestConfigMapVolume(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	publish := func(version string, files map[string]string) {
		must(t, os.Mkdir(filepath.Join(dir, version), 0o700))
		for name, content := range files {
			must(t, os.WriteFile(filepath.Join(dir, version, name), []byte(content), 0o600))
		}
		must(t, os.Symlink(version, filepath.Join(dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	publish("..1", map[string]string{"web.yaml": service("web", "10.0.0.1"), "api.yaml": service("api", "10.0.0.2")})
	must(t, os.Symlink("..data/web.yaml", filepath.Join(dir, "web.yaml")))
	must(t, os.Symlink("..data/api.yaml", filepath.Join(dir, "api.yaml")))
	r := sourcetest.New(t)
	sourcetest.Run(r, Source{Dir: dir, Warn: r.Warn}.Run)
	r.Expect("nodes []", "cidrs []", "services [default/api default/web]", "slices []")

	publish("..2", map[string]string{"web.yaml": service("web", "10.0.0.7"), "api.yaml": service("api", "10.0.0.2")})
	r.Expect("service default/web 10.0.0.7")
	must(t, os.RemoveAll(filepath.Join(dir, "..1")))
	r.ExpectWarnings()

	// A key goes: kubelet removes its link after the swap. (If that takes long, the dangling link is warned of.)
	publish("..3", map[string]string{"web.yaml": service("web", "10.0.0.8")})
	must(t, os.Remove(filepath.Join(dir, "api.yaml")))
	r.ExpectSorted("delete service default/api", "service default/web 10.0.0.8")
}

func TestDirectoryGoesAndComesBack(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir, moved := filepath.Join(parent, "dir"), filepath.Join(parent, "moved")
	must(t, os.Mkdir(dir, 0o700))
	write(t, dir, "web.yaml", service("web", "10.0.0.1"))
	r := sourcetest.New(t)
	sourcetest.Run(r, Source{Dir: dir, Warn: r.Warn}.Run)
	r.Expect("nodes []", "cidrs []", "services [default/web]", "slices []")

	must(t, os.Rename(dir, moved))
	r.ExpectWarnings("read manifest directory: stat " + dir + ": no such file or directory; its last state stays until it is back")
	write(t, moved, "web.yaml", service("web", "10.0.0.2"))
	must(t, os.Rename(moved, dir))
	r.Expect("service default/web 10.0.0.2")
	write(t, dir, "web.yaml", service("web", "10.0.0.3"))
	r.Expect("service default/web 10.0.0.3")

	// A link to the directory is turned elsewhere.
	must(t, os.Rename(dir, filepath.Join(parent, "v1")))
	r.ExpectWarnings("read manifest directory: stat " + dir + ": no such file or directory; its last state stays until it is back")
	must(t, os.Symlink("v1", dir))
	write(t, dir, "web.yaml", service("web", "10.0.0.4"))
	r.Expect("service default/web 10.0.0.4")
	must(t, os.Mkdir(filepath.Join(parent, "v2"), 0o700))
	write(t, filepath.Join(parent, "v2"), "web.yaml", service("web", "10.0.0.5"))
	must(t, os.Symlink("v2", filepath.Join(parent, "link")))
	must(t, os.Rename(filepath.Join(parent, "link"), dir))
	r.Expect("service default/web 10.0.0.5")
	r.ExpectWarnings()
}

// The directory goes away between the notification and the reading.
func TestReaderKeepsAllWhenTheDirectoryIsGone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "dir")
	must(t, os.Mkdir(dir, 0o700))
	write(t, dir, "web.yaml", service("web", "10.0.0.1"))
	r := newReader(dir, "", func(err error) { t.Error(err) })
	must(t, r.loadAll())
	if got := r.changes(); len(got) != 1 {
		t.Fatalf("got %d objects, want 1", len(got))
	}
	must(t, os.Rename(dir, dir+".away"))
	if err := r.load([]string{"web.yaml"}); err == nil {
		t.Error("reading from a directory that is gone does not fail")
	}
	if err := r.loadAll(); err == nil {
		t.Error("reading a directory that is gone does not fail")
	}
	if got := r.changes(); len(got) != 0 {
		t.Errorf("got changes %v", got)
	}
}

func TestNeedsItsDirectory(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	for _, dir := range []string{missing, file} {
		r := sourcetest.New(t)
		err := Source{Dir: dir, Warn: r.Warn}.Run(context.Background(), r)
		if err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("Run on %s: got %v, want an error that names it", dir, err)
		}
		if lines, _ := r.Take(); len(lines) > 0 {
			t.Errorf("Run on %s called the sink: %v", dir, lines)
		}
		if _, errs := (Source{Dir: dir}).Read(); len(errs) != 1 {
			t.Errorf("Read of %s: got errors %v, want one", dir, errs)
		}
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "a.yaml", docs(service("web", "10.0.0.1"), slice("web-1", "web", "10.1.0.1")))
	write(t, dir, "b.yaml", service("web", "10.0.0.2"))
	write(t, dir, "c.yaml", "kind: [")
	write(t, dir, "d.yaml", serviceCIDR("extra", "10.96.0.0/16"))
	all, errs := Source{Dir: dir}.Read()
	if got := sourcetest.Names(all.Services) + sourcetest.Names(all.EndpointSlices) + sourcetest.Names(all.Nodes) + sourcetest.Names(all.ServiceCIDRs); got != "[default/web][default/web-1][][extra]" {
		t.Errorf("got %s", got)
	}
	if all.Services[0].Spec.ClusterIP != "10.0.0.1" {
		t.Errorf("web has %s, not what the first file says", all.Services[0].Spec.ClusterIP)
	}
	if len(errs) != 2 || !strings.HasPrefix(errs[0].Error(), "c.yaml:1: ") || !strings.HasPrefix(errs[1].Error(), "b.yaml:1: ") {
		t.Errorf("got errors %q, want one for c.yaml and one for b.yaml", errs)
	}
}

func proxied(text, label string) string {
	if strings.Contains(text, "  labels:\n") {
		return strings.Replace(text, "  labels:\n", "  labels:\n    "+source.LabelServiceProxyName+": "+label+"\n", 1)
	}
	return strings.Replace(text, "\nspec:", "\n  labels: {"+source.LabelServiceProxyName+": "+label+"}\nspec:", 1)
}

func TestServiceProxyName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, label := range []string{"mine", "other", "''"} {
		name := strings.Trim(label, "'")
		write(t, dir, "labelled"+name+".yaml", docs(proxied(service("s"+name, "10.0.0.1"), label),
			proxied(slice("e"+name, "s"+name, "10.1.0.1"), label)))
	}
	headless := strings.Replace(proxied(slice("headless", "smine", "10.1.0.1"), "mine"), "  labels:\n", "  labels:\n    "+corev1.IsHeadlessService+": ''\n", 1)
	write(t, dir, "plain.yaml", docs(service("plain", "10.0.0.2"), slice("eplain", "plain", "10.1.0.2"), headless))
	const slices = "[default/e default/emine default/eother default/eplain]" // whatever their labels
	for name, want := range map[string]string{
		"":       "[default/plain]" + slices,
		"mine":   "[default/smine]" + slices,
		"nobody": "[]" + slices,
	} {
		all, errs := Source{Dir: dir, ServiceProxyName: name}.Read()
		if got := sourcetest.Names(all.Services) + sourcetest.Names(all.EndpointSlices); got != want || len(errs) > 0 {
			t.Errorf("service proxy name %q: got %s and errors %v, want %s", name, got, errs, want)
		}
	}

	r := sourcetest.New(t)
	sourcetest.Run(r, Source{Dir: dir, ServiceProxyName: "mine", Warn: r.Warn}.Run)
	r.Expect("nodes []", "cidrs []", "services [default/smine]", "slices "+slices)
	// Whoever gets or loses the label comes or goes.
	write(t, dir, "plain.yaml", proxied(service("plain", "10.0.0.2"), "mine"))
	r.Expect("delete slice default/eplain", "service default/plain 10.0.0.2")
	write(t, dir, "plain.yaml", service("plain", "10.0.0.2"))
	r.Expect("delete service default/plain")
	r.ExpectWarnings()
}

func TestServiceProxyNameThatCannotBe(t *testing.T) {
	t.Parallel()
	r := sourcetest.New(t)
	if err := (Source{Dir: t.TempDir(), ServiceProxyName: "a b"}).Run(context.Background(), r); err == nil || !strings.Contains(err.Error(), "service proxy name") {
		t.Errorf("got error %v, want one about the service proxy name", err)
	}
	if lines, _ := r.Take(); len(lines) > 0 {
		t.Errorf("the sink was told %q", lines)
	}
}
