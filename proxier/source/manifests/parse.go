// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"fmt"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/nftproxy/nftproxy/proxier/source"
)

// maxFaults is how many faults of a file are told.
const maxFaults = 100

// parser collects the objects and the faults of one file.
type parser struct {
	file    string
	ours    source.ProxyName
	objects []object
	faults  []*FileError
	lines   map[key]int // where each object of the file starts
}

// parseManifest returns the objects of a file that are ours, or what is wrong with it.
func parseManifest(file string, data []byte, ours source.ProxyName) ([]object, []*FileError) {
	p := &parser{file: file, ours: ours, lines: map[key]int{}}
	if len(data) == 0 {
		p.fail(0, "is empty; its last good objects stay (remove the file to remove them)")
		return nil, p.faults
	}
	documents := yamlDocuments
	if filepath.Ext(file) == ".json" {
		documents = jsonDocuments
	}
	aliases := newExpansion(len(data))
	for root, fault := range documents(data) {
		if fault == nil {
			fault = aliases.check(root)
		}
		if fault != nil {
			p.fail(fault.Line, "%s", fault.Reason)
			break
		}
		p.document(root)
		if len(p.faults) >= maxFaults {
			p.faults = p.faults[:maxFaults]
			p.faults = append(p.faults, &FileError{File: file, Reason: fmt.Sprintf("has more faults than these %d", maxFaults)})
			break
		}
	}
	if len(p.faults) > 0 {
		return nil, p.faults
	}
	return p.objects, nil
}

func (p *parser) fail(line int, format string, args ...any) {
	p.faults = append(p.faults, &FileError{File: p.file, Line: line, Reason: fmt.Sprintf(format, args...)})
}

// typeMeta is what says how to decode a document.
type typeMeta struct{ apiVersion, kind string }

// The types that are read. A List of a type may leave out the type of its items.
var (
	typeService       = typeMeta{"v1", string(kindService)}
	typeNode          = typeMeta{"v1", string(kindNode)}
	typeEndpointSlice = typeMeta{discoveryv1.SchemeGroupVersion.String(), string(kindEndpointSlice)}
	typeServiceCIDR   = typeMeta{networkingv1.SchemeGroupVersion.String(), string(kindServiceCIDR)}
)

// itemType tells whether t is a list, and of what; the item type is empty where the items must tell.
func (t typeMeta) itemType() (item typeMeta, isList bool) {
	switch t {
	case typeMeta{"v1", "List"}:
		return typeMeta{}, true
	case typeMeta{"v1", "ServiceList"}:
		return typeService, true
	case typeMeta{"v1", "NodeList"}:
		return typeNode, true
	case typeMeta{typeEndpointSlice.apiVersion, "EndpointSliceList"}:
		return typeEndpointSlice, true
	case typeMeta{typeServiceCIDR.apiVersion, "ServiceCIDRList"}:
		return typeServiceCIDR, true
	}
	return typeMeta{}, false
}

// document reads an object or a list of objects.
func (p *parser) document(root *yaml.Node) {
	n := follow(root)
	if isNull(n) {
		return
	}
	t, ok := p.typeOf(n, typeMeta{})
	if !ok {
		return
	}
	item, isList := t.itemType()
	if !isList {
		p.object(n, t)
		return
	}
	fields, _ := pairsOf(n) // typeOf has seen the faults
	for _, f := range fields {
		switch f.key.Value {
		case "apiVersion", "kind", "metadata":
		case "items":
			p.items(follow(f.value), item)
		default:
			p.fail(f.key.Line, "unknown field %q in a %s", f.key.Value, t.kind)
		}
	}
}

func (p *parser) items(list *yaml.Node, item typeMeta) {
	if isNull(list) {
		return
	}
	if list.Kind != yaml.SequenceNode {
		p.fail(list.Line, "items: want a list, found %s", describe(list))
		return
	}
	for _, c := range list.Content {
		if len(p.faults) >= maxFaults {
			return
		}
		n := follow(c)
		if t, ok := p.typeOf(n, item); ok {
			p.object(n, t)
		}
	}
}

// typeOf reads apiVersion and kind, which may both be missing if there is a default for them.
func (p *parser) typeOf(n *yaml.Node, byDefault typeMeta) (typeMeta, bool) {
	if n.Kind != yaml.MappingNode {
		p.fail(n.Line, "want a Kubernetes object, found %s", describe(n))
		return typeMeta{}, false
	}
	if _, fault := pairsOf(n); fault != nil {
		p.fail(fault.Line, "%s", fault.Reason)
		return typeMeta{}, false
	}
	t := typeMeta{apiVersion: text(n, "apiVersion"), kind: text(n, "kind")}
	if t == (typeMeta{}) {
		t = byDefault
	}
	switch {
	case t.kind == "":
		p.fail(n.Line, "kind is missing")
	case t.apiVersion == "":
		p.fail(n.Line, "apiVersion is missing")
	default:
		return t, true
	}
	return typeMeta{}, false
}

// object reads one object.
func (p *parser) object(n *yaml.Node, t typeMeta) {
	d := &document{file: p.file, ours: p.ours, root: n}
	var o *object
	switch t {
	case typeService:
		o = read(d, kindService, &corev1.Service{}, prepareService)
	case typeEndpointSlice:
		o = read(d, kindEndpointSlice, &discoveryv1.EndpointSlice{}, prepareEndpointSlice)
	case typeNode:
		o = read(d, kindNode, &corev1.Node{}, prepareNode)
	case typeServiceCIDR:
		o = read(d, kindServiceCIDR, &networkingv1.ServiceCIDR{}, prepareServiceCIDR)
	default:
		p.unknown(n, t)
	}
	p.faults = append(p.faults, d.faults...)
	if o == nil {
		return
	}
	if line, ok := p.lines[o.key]; ok {
		p.fail(o.line, "%s is already defined in line %d of this file", o.key, line)
		return
	}
	p.lines[o.key] = o.line
	p.objects = append(p.objects, *o)
}

func (p *parser) unknown(n *yaml.Node, t typeMeta) {
	line := n.Line
	if k, _ := child(n, "kind"); k != nil {
		line = k.Line
	}
	if strings.HasSuffix(t.kind, "List") {
		p.fail(line, "unknown kind %s of %s (a List inside a List is not read)", t.kind, t.apiVersion)
		return
	}
	p.fail(line, "unknown kind %s of %s: only Service and Node of v1, EndpointSlice of %s, ServiceCIDR of %s, and a List of them are read",
		t.kind, t.apiVersion, typeEndpointSlice.apiVersion, typeServiceCIDR.apiVersion)
}
