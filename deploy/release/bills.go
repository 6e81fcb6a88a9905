// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// module is a part of a binary.
type module struct {
	path, version string
	sum           string // SHA-256 of the module's files as go.sum has it, in hexadecimal digits; empty where there is none
	licence       string
}

// purl is the module's package URL.
func (m module) purl() string { return "pkg:golang/" + strings.ToLower(m.path) + "@" + m.version }

// bill says what a binary is made of.
type bill struct {
	release
	target  target
	sum     string // of the binary
	program module
	modules []module
}

// writeBills writes the bills of materials of a target's binary, as CycloneDX and as SPDX.
func (r release) writeBills(t target, n notices) error {
	b, err := r.bill(t, n)
	if err != nil {
		return err
	}
	var cdx bytes.Buffer
	encoder := cyclonedx.NewBOMEncoder(&cdx, cyclonedx.BOMFileFormatJSON)
	if err := encoder.SetPretty(true).EncodeVersion(b.cycloneDX(), cyclonedx.SpecVersion1_6); err != nil {
		return fmt.Errorf("write CycloneDX: %w", err)
	}
	if err := os.WriteFile(r.file(t, ".cdx.json"), cdx.Bytes(), 0o644); err != nil {
		return err
	}
	text, err := json.MarshalIndent(b.spdx(), "", "  ")
	if err != nil {
		return fmt.Errorf("write SPDX: %w", err)
	}
	return os.WriteFile(r.file(t, ".spdx.json"), append(text, '\n'), 0o644)
}

// bill reads what Go has written into the binary.
func (r release) bill(t target, n notices) (bill, error) {
	file := r.binary(t)
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return bill{}, err
	}
	sum, err := sumOf(file)
	if err != nil {
		return bill{}, err
	}
	b := bill{release: r, target: t, sum: sum, program: module{path: modulePath, version: r.version, licence: licence}}
	for _, d := range info.Deps {
		m := module{path: d.Path, version: d.Version, licence: n.ids[d.Path]}
		if d.Replace != nil {
			m.path, m.version, d = d.Replace.Path, d.Replace.Version, d.Replace
		}
		if m.licence == "" {
			return b, fmt.Errorf("module %s is in %s, and its licence was not collected: is the binary of this checkout?", d.Path, file)
		}
		if raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(d.Sum, "h1:")); err == nil && len(raw) == sha256.Size {
			m.sum = hex.EncodeToString(raw)
		}
		b.modules = append(b.modules, m)
	}
	b.modules = append(b.modules, module{path: standard, version: strings.TrimPrefix(info.GoVersion, "go"), licence: n.ids[standard]})
	return b, nil
}

// uuid is a name for the bill that its binary alone decides (RFC 9562, version 8).
func (b bill) uuid() string {
	u := sha256.Sum256([]byte("nftproxy bill of materials\n" + b.version + "\n" + b.target.String() + "\n" + b.sum))
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

func (b bill) created() string { return b.time.Format(time.RFC3339) }

// cycloneDX is the bill in CycloneDX's words. Which module needs which is not known of a binary, so the program needs all.
func (b bill) cycloneDX() *cyclonedx.BOM {
	program := b.program.component(cyclonedx.ComponentTypeApplication)
	program.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: b.sum}}
	program.Description = summary
	program.Properties = &[]cyclonedx.Property{{Name: "build:env:GOOS", Value: b.target.os}, {Name: "build:env:GOARCH", Value: b.target.arch},
		{Name: "build:vcs:revision", Value: b.commit}}
	var components []cyclonedx.Component
	var needs []string
	for _, m := range b.modules {
		components = append(components, m.component(cyclonedx.ComponentTypeLibrary))
		needs = append(needs, m.purl())
	}
	bom := cyclonedx.NewBOM()
	bom.SerialNumber = "urn:uuid:" + b.uuid()
	bom.Metadata = &cyclonedx.Metadata{Timestamp: b.created(), Component: &program}
	bom.Components = &components
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: b.program.purl(), Dependencies: &needs}}
	return bom
}

func (m module) component(kind cyclonedx.ComponentType) cyclonedx.Component {
	c := cyclonedx.Component{BOMRef: m.purl(), Type: kind, Name: m.path, Version: m.version, PackageURL: m.purl(),
		Licenses: &cyclonedx.Licenses{{Expression: m.licence}}}
	if m.sum != "" {
		c.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: m.sum}}
	}
	return c
}

// spdx is the bill in SPDX' words.
func (b bill) spdx() *v2_3.Document {
	const self = common.ElementID("Package-nftproxy")
	program := b.program.pkg(self)
	program.PrimaryPackagePurpose = "APPLICATION"
	program.PackageFileName = filepath.Base(b.binary(b.target))
	program.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: b.sum}}
	doc := v2_3.Document{SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName:      fmt.Sprintf("nftproxy %s for %s", b.version, b.target.label()),
		DocumentNamespace: homepage + "/spdx/" + b.uuid(),
		CreationInfo: &v2_3.CreationInfo{Created: b.created(),
			Creators: []common.Creator{{CreatorType: "Organization", Creator: "nftproxy"}, {CreatorType: "Tool", Creator: "nftproxy-release-" + b.version}}},
		Packages:      []*v2_3.Package{program},
		Relationships: []*v2_3.Relationship{relation("DOCUMENT", common.TypeRelationshipDescribe, self)}}
	for i, m := range b.modules {
		id := common.ElementID(fmt.Sprintf("Package-module-%d", i))
		doc.Packages = append(doc.Packages, m.pkg(id))
		doc.Relationships = append(doc.Relationships, relation(self, common.TypeRelationshipContains, id))
	}
	return &doc
}

func relation(from common.ElementID, what string, to common.ElementID) *v2_3.Relationship {
	return &v2_3.Relationship{RefA: common.DocElementID{ElementRefID: from}, Relationship: what, RefB: common.DocElementID{ElementRefID: to}}
}

func (m module) pkg(id common.ElementID) *v2_3.Package {
	p := v2_3.Package{PackageName: m.path, PackageSPDXIdentifier: id, PackageVersion: m.version, PackageDownloadLocation: "NOASSERTION",
		PackageLicenseConcluded: m.licence, PackageLicenseDeclared: m.licence, PackageCopyrightText: "NOASSERTION",
		PackageExternalReferences: []*v2_3.PackageExternalReference{{Category: common.CategoryPackageManager,
			RefType: common.TypePackageManagerPURL, Locator: m.purl()}}}
	if m.sum != "" {
		p.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: m.sum}}
	}
	return &p
}
