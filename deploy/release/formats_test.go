// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/blakesmith/ar"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/sassoftware/go-rpmutils"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"
)

// testBills: both bills of materials name what the binary is made of.
func (r release) testBills(t *testing.T) {
	here := target{runtime.GOOS, runtime.GOARCH}
	sum, err := sumOf(r.binary(here))
	must(t, err)

	var bom cyclonedx.BOM
	must(t, cyclonedx.NewBOMDecoder(strings.NewReader(read(t, r.file(here, ".cdx.json"))), cyclonedx.BOMFileFormatJSON).Decode(&bom))
	if got := (*bom.Metadata.Component.Hashes)[0].Value; got != sum || bom.Metadata.Component.Version != r.version {
		t.Errorf("CycloneDX is of %s, version %s", got, bom.Metadata.Component.Version)
	}
	parts := map[string]string{}
	for _, c := range *bom.Components {
		parts[c.Name] = (*c.Licenses)[0].Expression
	}
	if parts["golang.org/x/time"] != "BSD-3-Clause" || parts[standard] != "BSD-3-Clause" || len(parts) != 2 {
		t.Errorf("CycloneDX has %v", parts)
	}

	doc, err := spdxjson.Read(strings.NewReader(read(t, r.file(here, ".spdx.json"))))
	must(t, err)
	must(t, spdxlib.ValidateDocument(doc))
	var names []string
	for _, p := range doc.Packages {
		names = append(names, p.PackageName+" "+p.PackageLicenseConcluded)
	}
	want := []string{"github.com/nftproxy/nftproxy Apache-2.0", "golang.org/x/time BSD-3-Clause", "std BSD-3-Clause"}
	if !slices.Equal(names, want) || doc.Packages[0].PackageChecksums[0].Value != sum {
		t.Errorf("SPDX has %q", names)
	}
	if doc.CreationInfo.Created != "2023-11-14T22:13:20Z" {
		t.Errorf("SPDX was created at %s", doc.CreationInfo.Created)
	}
}

// packageFiles are those of both kinds of package but for zsh's.
func packageFiles() []string {
	return []string{"/usr/bin/nftproxy", "/usr/lib/systemd/system/nftproxy.service", "/usr/share/man/man1/nftproxy.1",
		"/usr/share/doc/nftproxy/LICENSE", "/usr/share/bash-completion/completions/nftproxy", "/etc/nftproxy"}
}

func (r release) testDeb(t *testing.T) {
	parts := map[string][]byte{}
	for a := ar.NewReader(strings.NewReader(read(t, r.out, "nftproxy_1.2.3~rc.4-1_armhf.deb"))); ; {
		h, err := a.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		data, err := io.ReadAll(a)
		must(t, err)
		parts[strings.TrimSuffix(h.Name, "/")] = data
	}
	control := text(unordered(t, parts["control.tar.gz"]), "./control")
	for _, part := range []string{"Package: nftproxy\n", "Version: 1.2.3~rc.4-1\n", "Architecture: armhf\n", "Section: net\n"} {
		if !strings.Contains(control, part) {
			t.Errorf("it lacks %q:\n%s", part, control)
		}
	}
	files := unordered(t, parts["data.tar.gz"])
	for _, want := range append(packageFiles(), "/usr/share/zsh/vendor-completions/_nftproxy") {
		if !slices.ContainsFunc(files, func(e entry) bool { return strings.TrimSuffix(e.name, "/") == "."+want }) {
			t.Errorf("it has no %s", want)
		}
	}
	if unit := text(files, "./usr/lib/systemd/system/nftproxy.service"); !strings.Contains(unit, "ExecStart=/usr/bin/nftproxy run") || strings.Contains(unit, "/usr/local") {
		t.Errorf("the unit starts another program:\n%s", unit)
	}
}

func (r release) testRPM(t *testing.T) {
	rpm, err := rpmutils.ReadRpm(strings.NewReader(read(t, r.out, "nftproxy-1.2.3~rc.4-1.armv7hl.rpm")))
	must(t, err)
	nevra, err := rpm.Header.GetNEVRA()
	must(t, err)
	if got := nevra.String(); !strings.Contains(got, "nftproxy-") || !strings.Contains(got, "1.2.3~rc.4-1.armv7hl") {
		t.Errorf("it is %s", got)
	}
	files, err := rpm.Header.GetFiles()
	must(t, err)
	for _, want := range append(packageFiles(), "/usr/share/zsh/site-functions/_nftproxy") {
		if !slices.ContainsFunc(files, func(f rpmutils.FileInfo) bool { return f.Name() == want && f.UserName() == "root" }) {
			t.Errorf("it has no %s of root's", want)
		}
	}
	host, err := rpm.Header.GetString(rpmutils.BUILDHOST)
	if err != nil || host != "nftproxy" {
		t.Errorf("it says that %q built it (%v)", host, err)
	}
}

// unordered returns the files of a compressed tar file.
func unordered(t *testing.T, data []byte) []entry {
	t.Helper()
	files, err := membersOf(data)
	must(t, err)
	return files
}

// testPush publishes the image for both architectures, its bills of materials, and the chart.
func (r release) testPush(t *testing.T) {
	host := strings.TrimSuffix(r.registry, "/some")
	var out bytes.Buffer
	must(t, push(t.Context(), r.out, &out))
	digest := r.digest(t)
	ref, err := name.NewDigest(host + "/some/nftproxy@" + digest)
	must(t, err)
	index, err := remote.Index(ref)
	must(t, err)
	m, err := index.IndexManifest()
	must(t, err)
	var platforms []string
	for _, d := range m.Manifests {
		platforms = append(platforms, d.Platform.String())
	}
	if want := []string{"linux/" + runtime.GOARCH, "linux/arm/v7"}; !slices.Equal(slices.Sorted(slices.Values(platforms)), slices.Sorted(slices.Values(want))) {
		t.Errorf("the image is for %q", platforms)
	}
	if m.Annotations["org.opencontainers.image.revision"] != r.commit {
		t.Errorf("the image's annotations are %v", m.Annotations)
	}
	r.wantImage(t)

	bills, err := remote.Referrers(ref)
	must(t, err)
	list, err := bills.IndexManifest()
	must(t, err)
	if len(list.Manifests) != 4 || list.Manifests[0].ArtifactType == "" {
		t.Errorf("%d artefacts refer to the image, want 4: %+v", len(list.Manifests), list.Manifests)
	}

	tag, err := name.NewTag(host + "/some/charts/nftproxy:1.2.3-rc.4")
	must(t, err)
	chart, err := remote.Image(tag)
	must(t, err)
	config, err := chart.RawConfigFile()
	must(t, err)
	if !bytes.Contains(config, []byte(`"appVersion":"v1.2.3-rc.4"`)) {
		t.Errorf("the chart's metadata are %s", config)
	}
	layers, err := chart.Layers()
	must(t, err)
	content, err := layers[0].Compressed()
	must(t, err)
	got, err := io.ReadAll(content)
	must(t, err)
	if string(got) != read(t, r.out, "nftproxy-1.2.3-rc.4.tgz") {
		t.Error("the chart is another one")
	}
	if !strings.Contains(out.String(), "@"+digest) || !strings.Contains(out.String(), "oci://"+host+"/some/charts/nftproxy:1.2.3-rc.4") {
		t.Errorf("it says %s", out.String())
	}
}

// wantImage looks at one architecture's image by its tag.
func (r release) wantImage(t *testing.T) {
	t.Helper()
	tag, err := name.NewTag(r.image())
	must(t, err)
	index, err := remote.Index(tag)
	must(t, err)
	m, err := index.IndexManifest()
	must(t, err)
	img, err := index.Image(m.Manifests[len(m.Manifests)-1].Digest)
	must(t, err)
	config, err := img.ConfigFile()
	must(t, err)
	if config.Config.Labels["org.opencontainers.image.version"] != r.version || !config.Created.Equal(r.time) || config.Config.Entrypoint[0] != "/nftproxy" {
		t.Errorf("the image's configuration is %+v", config)
	}
	layers, err := img.Layers()
	must(t, err)
	if len(layers) != 2 {
		t.Fatalf("%d layers, want the program's and the licences'", len(layers))
	}
}

func TestUnpackStaysInside(t *testing.T) {
	dir := t.TempDir()
	var b bytes.Buffer
	must(t, writeTar(&b, time.Unix(1, 0), []entry{{name: "../outside", mode: 0o644, data: []byte("x")}}))
	file := filepath.Join(dir, "evil.tar")
	must(t, os.WriteFile(file, b.Bytes(), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "in"), 0o755))
	if err := unpack(file, filepath.Join(dir, "in")); err == nil {
		t.Error("it wrote outside of its folder")
	}
	if _, err := os.Stat(filepath.Join(dir, "outside")); err == nil {
		t.Error("the file is there")
	}
}
