// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// figure is one measured thing.
type figure struct {
	// name is the thing's own, with its package: proxier.Proxier, proxier/store.go.
	name string
	n    int
	// why has a line for each part of n where a number alone says too little.
	why []string
}

// kind is something that is measured, and how much of it is too much.
type kind struct {
	title   string
	limit   int
	measure func(pkg) []figure
	// only are the packages that the limit is for; all if it is empty.
	only []string
}

// kinds are all that is measured, in the order of the report.
func kinds() []kind {
	return []kind{
		{title: "fields in a struct", limit: 12, measure: fields},
		{title: "methods on a type", limit: 25, measure: methods},
		{title: "lines in a file", limit: 400, measure: fileLines},
		{title: "lines in a function", limit: 60, measure: functionLines},
		{title: "upward arrows between the files of a package", limit: 0, measure: upwardArrows,
			only: []string{"cmd/nftproxy/app", "proxier"}},
	}
}

// measured gives a kind's figures of all packages, the largest first.
func measured(k kind, pkgs []pkg) []figure {
	var all []figure
	for _, p := range pkgs {
		all = append(all, k.measure(p)...)
	}
	slices.SortFunc(all, func(a, b figure) int {
		return cmp.Or(cmp.Compare(b.n, a.n), strings.Compare(a.name, b.name))
	})
	return all
}

// limited says whether the limit is for the package with this name.
func (k kind) limited(name string) bool { return len(k.only) == 0 || slices.Contains(k.only, name) }

// fields counts the names in each struct, embedded ones too. A struct without a name is named after
// the declaration around it.
func fields(p pkg) []figure {
	var all []figure
	p.eachDecl(func(name string, n ast.Node) {
		ast.Inspect(n, func(n ast.Node) bool {
			if s, ok := n.(*ast.StructType); ok {
				all = append(all, figure{name: name, n: s.Fields.NumFields()})
			}
			return true
		})
	})
	return all
}

// methods counts the methods declared on each type, and those that an interface lists.
func methods(p pkg) []figure {
	count := map[string]int{}
	p.eachDecl(func(name string, n ast.Node) {
		switch d := n.(type) {
		case *ast.FuncDecl:
			if d.Recv != nil {
				count[strings.TrimSuffix(name, "."+d.Name.Name)]++
			}
		case *ast.TypeSpec:
			if i, ok := d.Type.(*ast.InterfaceType); ok {
				count[name] += i.Methods.NumFields()
			}
		}
	})
	var all []figure
	for _, name := range sortedKeys(count) {
		all = append(all, figure{name: name, n: count[name]})
	}
	return all
}

func fileLines(p pkg) []figure {
	var all []figure
	for _, f := range p.files {
		all = append(all, figure{name: p.path + "/" + p.file(f), n: p.fset.File(f.Pos()).LineCount()})
	}
	return all
}

// functionLines counts from the line with func to the one with the closing brace.
func functionLines(p pkg) []figure {
	var all []figure
	p.eachDecl(func(name string, n ast.Node) {
		if d, ok := n.(*ast.FuncDecl); ok {
			all = append(all, figure{name: name, n: p.fset.Position(d.End()).Line - p.fset.Position(d.Pos()).Line + 1})
		}
	})
	return all
}

func upwardArrows(p pkg) []figure {
	all := arrowsBetween(p)
	f := figure{name: p.path}
	for _, a := range upward(all) {
		f.n++
		f.why = append(f.why, fmt.Sprintf("%s: %s", a, strings.Join(all[a], " ")))
	}
	return []figure{f}
}

// eachDecl calls do with each function, each type and each group of variables or constants, and its
// name: proxier.New, proxier.Proxier.Run.
func (p pkg) eachDecl(do func(name string, n ast.Node)) {
	for _, f := range p.files {
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				do(p.path+"."+receiver(d)+d.Name.Name, d)
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.TypeSpec:
						do(p.path+"."+s.Name.Name, s)
					case *ast.ValueSpec:
						do(p.path+"."+s.Names[0].Name, s)
					}
				}
			}
		}
	}
}

// receiver gives the name of a method's type and a dot, or "".
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	t := d.Recv.List[0].Type
	for {
		switch e := t.(type) {
		case *ast.StarExpr:
			t = e.X
		case *ast.IndexExpr:
			t = e.X
		case *ast.IndexListExpr:
			t = e.X
		case *ast.Ident:
			return e.Name + "."
		default:
			return "?."
		}
	}
}

// file gives a file's name without its directory.
func (p pkg) file(f *ast.File) string { return filepath.Base(p.fset.Position(f.Pos()).Filename) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
