// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"

	"github.com/nftproxy/nftproxy/proxier/source"
)

// document is one object in a file, and what is wrong with it.
type document struct {
	file   string
	ours   source.ProxyName
	root   *yaml.Node
	faults []*FileError
}

func (d *document) fail(line int, format string, args ...any) {
	d.faults = append(d.faults, &FileError{File: d.file, Line: line, Reason: fmt.Sprintf(format, args...)})
}

// failAt reports a fault of the field at path ("spec.ports[0].port"), or of the nearest one around it that exists.
func (d *document) failAt(path, format string, args ...any) {
	if len(d.faults) >= maxFaults {
		return // to find its line takes long
	}
	d.fail(find(d.root, path), path+": "+format, args...)
}

// read decodes, completes and checks one object. It returns nil if the object is bad, or not for us.
func read[T metav1.Object](d *document, k kind, value T, prepare func(*document, T) (ours bool)) *object {
	if !d.decode(value) {
		return nil
	}
	value.SetManagedFields(nil)
	if value.GetName() == "" {
		d.failAt("metadata.name", "is missing")
		return nil
	}
	if !k.namespaced() {
		value.SetNamespace("")
	} else if value.GetNamespace() == "" {
		value.SetNamespace(metav1.NamespaceDefault)
	}
	if value.GetDeletionTimestamp() != nil || !prepare(d, value) || len(d.faults) > 0 {
		return nil
	}
	id := key{kind: k, namespace: value.GetNamespace(), name: value.GetName()}
	s, err := sumOf(value)
	if err != nil {
		d.fail(d.root.Line, "%s", err)
		return nil
	}
	return &object{key: id, line: d.root.Line, sum: s, value: value}
}

// decode fills value strictly from the document. It tells whether there was no fault.
func (d *document) decode(value any) bool {
	e := encoder{}
	if fault := e.encode(d.root); fault != nil {
		d.fail(fault.Line, "%s", fault.Reason)
		return false
	}
	strict, err := kjson.UnmarshalStrict(e.out, value, kjson.DisallowUnknownFields)
	if err != nil {
		d.undecodable(&e, err)
	}
	for _, s := range strict {
		d.unknownField(s)
	}
	return len(d.faults) == 0
}

func (d *document) unknownField(err error) {
	line := d.root.Line
	var field kjson.FieldError
	if errors.As(err, &field) {
		line = find(d.root, field.FieldPath())
	}
	d.fail(line, "%s", err)
}

func (d *document) undecodable(e *encoder, err error) {
	fault, ok := errors.AsType[*typeError](err)
	if !ok {
		d.fail(d.root.Line, "%s", err)
		return
	}
	name := fault.Field[strings.LastIndexByte(fault.Field, '.')+1:]
	line, ok := e.lineBefore(int(fault.Offset), name)
	if !ok {
		line = find(d.root, fault.Field)
	}
	d.fail(line, "%s: want %s, found %s", fault.Field, fault.Type, fault.Value)
}
