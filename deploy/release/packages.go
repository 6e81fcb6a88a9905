// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	"github.com/goreleaser/nfpm/v2/rpm"
)

// unitFile is the unit's place in the checkout; it names the program where an archive is unpacked, packages have it elsewhere.
const (
	unitFile    = "deploy/systemd/nftproxy.service"
	unpackedBin = "/usr/local/bin/nftproxy"
	packagedBin = "/usr/bin/nftproxy"
)

//go:embed postinstall.sh
var postInstall []byte

// writePackages writes a target's deb and rpm.
func (r release) writePackages(t target, all []entry) error {
	dir, err := os.MkdirTemp("", "nftproxy-packages-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	unit, err := r.unit()
	if err != nil {
		return err
	}
	all = append(all, entry{"nftproxy.service", 0o644, unit}, entry{"postinstall.sh", 0o755, postInstall})
	for _, e := range all {
		file := filepath.Join(dir, e.name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, e.data, os.FileMode(e.mode)); err != nil {
			return err
		}
	}
	if err := r.writePackage(t, dir, deb.Default, "vendor-completions"); err != nil {
		return fmt.Errorf("write the deb: %w", err)
	}
	if err := r.writePackage(t, dir, rpm.DefaultRPM, "site-functions"); err != nil {
		return fmt.Errorf("write the rpm: %w", err)
	}
	return nil
}

// unit is the systemd unit for packages.
func (r release) unit() ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(r.root, unitFile))
	if err != nil {
		return nil, err
	}
	if !strings.Contains(string(text), unpackedBin) {
		return nil, fmt.Errorf("%s does not name %s: packages would have a unit of a program that they lack", unitFile, unpackedBin)
	}
	return []byte(strings.ReplaceAll(string(text), unpackedBin, packagedBin)), nil
}

// writePackage writes one package of the files below dir. zsh is the folder of zsh's completions, which differs.
func (r release) writePackage(t target, dir string, format nfpm.Packager, zsh string) error {
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "nftproxy", Arch: t.arch, Platform: "linux", Version: r.version, Release: "1", MTime: r.time,
		Section: "net", Priority: "optional", License: licence, Homepage: homepage,
		Maintainer: "nftproxy maintainers <nftproxy@users.noreply.github.com>",
		Description: summary + "\nIt programs nftables over netlink. The service is not started by the package: write\n" +
			"/etc/nftproxy/config.conf, then enable nftproxy.service.",
		Overridables: nfpm.Overridables{
			Contents: r.contents(dir, zsh),
			Scripts:  nfpm.Scripts{PostInstall: filepath.Join(dir, "postinstall.sh")},
			RPM:      nfpm.RPM{BuildHost: "nftproxy", Summary: summary},
		}})
	if t.arch == "arm" {
		info.Arch = "arm7"
	}
	if err := nfpm.Validate(info); err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(r.out, format.ConventionalFileName(info)))
	if err != nil {
		return err
	}
	defer out.Close()
	if err := format.Package(info, out); err != nil {
		return err
	}
	return out.Close()
}

// contents says where a package has what.
func (r release) contents(dir, zsh string) files.Contents {
	const doc = "/usr/share/doc/nftproxy/"
	out := files.Contents{{Destination: "/etc/nftproxy", Type: files.TypeDir, FileInfo: &files.ContentFileInfo{Mode: 0o755, MTime: r.time}}}
	for from, to := range map[string]string{
		"nftproxy": packagedBin, "nftproxy.service": "/usr/lib/systemd/system/nftproxy.service",
		licenceFile: doc + licenceFile, noticesFile: doc + noticesFile, manPage: "/usr/share/man/man1/nftproxy.1",
		bashCompletion: "/usr/share/bash-completion/completions/nftproxy",
		zshCompletion:  "/usr/share/zsh/" + zsh + "/_nftproxy",
		fishCompletion: "/usr/share/fish/vendor_completions.d/nftproxy.fish",
	} {
		mode := os.FileMode(0o644)
		if to == packagedBin {
			mode = 0o755
		}
		out = append(out, &files.Content{Source: filepath.Join(dir, from), Destination: to,
			FileInfo: &files.ContentFileInfo{Mode: mode, MTime: r.time, Owner: "root", Group: "root"}})
	}
	return out
}
