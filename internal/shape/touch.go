// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"go/types"
	"path/filepath"
	"slices"
	"strings"
)

// family is a set of names that the code has lists of: to add another one means to touch each of these lists.
type family struct {
	// name is what CONTRIBUTING.md calls one of them.
	name  string
	limit int
	// used says that it is nothing until rules are made of it: the file that makes them is not counted.
	used bool
	// members says whether something that the package rules declares is one of them.
	member func(types.Object) bool
}

// families are those to which most is added.
func families() []family {
	return []family{
		{"a kind of set", 1, true, constantOf("SetKind")},
		{"a scheduler", 2, false, constantOf("Scheduler")},
		{"a statement", 4, true, implements("Statement")},
		{"a field of a Service", 4, false, fieldOf("Policies")},
	}
}

// constantOf says whether something is an exported constant of a type.
func constantOf(name string) func(types.Object) bool {
	return func(o types.Object) bool {
		c, ok := o.(*types.Const)
		if !ok || !c.Exported() {
			return false
		}
		t, ok := c.Type().(*types.Named)
		return ok && t.Obj().Name() == name
	}
}

// implements says whether something is an exported type that implements an interface of its package.
func implements(name string) func(types.Object) bool {
	return func(o types.Object) bool {
		t, ok := o.(*types.TypeName)
		if !ok || !t.Exported() || t.Name() == name {
			return false
		}
		i := o.Pkg().Scope().Lookup(name)
		return i != nil && types.Implements(t.Type(), i.Type().Underlying().(*types.Interface))
	}
}

// fieldOf says whether something is a field of a struct.
func fieldOf(name string) func(types.Object) bool {
	return func(o types.Object) bool {
		f, ok := o.(*types.Var)
		if !ok || !f.IsField() {
			return false
		}
		s, ok := o.Pkg().Scope().Lookup(name).(*types.TypeName)
		if !ok {
			return false
		}
		list, ok := s.Type().Underlying().(*types.Struct)
		if !ok {
			return false
		}
		for i := range list.NumFields() {
			if list.Field(i) == f {
				return true
			}
		}
		return false
	}
}

// forTests says whether a package is for tests alone.
func (p pkg) forTests() bool {
	return strings.HasSuffix(p.path, "test") || strings.HasPrefix(p.path, "e2e/")
}

// mentions says which members of a family each file names, and which file declares each.
type mentions struct {
	by       map[string]map[string]bool // member, file
	declared map[string]string
}

// mentionsOf finds the members of a family that one of the packages declares, wherever they are named.
func mentionsOf(f family, declaring string, pkgs []pkg) mentions {
	m := mentions{map[string]map[string]bool{}, map[string]string{}}
	for _, p := range pkgs {
		if p.path == declaring {
			for id, o := range p.info.Defs {
				if o != nil && f.member(o) {
					m.declared[p.place(o)] = p.path + "/" + filepath.Base(p.fset.Position(id.Pos()).Filename)
				}
			}
		}
	}
	for _, p := range pkgs {
		if p.forTests() {
			continue
		}
		for _, file := range p.files {
			name := p.path + "/" + p.file(file)
			ast.Inspect(file, func(n ast.Node) bool {
				id, ok := n.(*ast.Ident)
				if !ok {
					return true
				}
				o := p.info.ObjectOf(id)
				if o == nil || !o.Pos().IsValid() {
					return true
				}
				member := p.place(o)
				if _, ok := m.declared[member]; ok {
					if m.by[member] == nil {
						m.by[member] = map[string]bool{}
					}
					m.by[member][name] = true
				}
				return true
			})
		}
	}
	return m
}

// place names something by where it is declared: for packages that use it, its declaration is read from compiled form.
func (p pkg) place(o types.Object) string {
	at := p.fset.Position(o.Pos())
	return fmt.Sprintf("%s %s:%d", o.Name(), at.Filename, at.Line)
}

// lists gives the files that name at least three quarters of the members: each has a list of them. Files that name fewer use some.
func (m mentions) lists() []string {
	count := map[string]int{}
	for _, files := range m.by {
		for file := range files {
			count[file]++
		}
	}
	var out []string
	for _, file := range sortedKeys(count) {
		if 4*count[file] >= 3*len(m.declared) {
			out = append(out, file)
		}
	}
	return out
}

// touched gives the files to be touched for another member that does no more than each must: all lists, and all files that name
// the member which the fewest name, where it is declared too.
func (m mentions) touched() []string {
	lists := m.lists()
	var fewest []string
	for _, member := range sortedKeys(m.by) {
		files := slices.Concat(lists, sortedKeys(m.by[member]))
		slices.Sort(files)
		if files = slices.Compact(files); fewest == nil || len(files) < len(fewest) {
			fewest = files
		}
	}
	return fewest
}

// touches gives how many files are to be touched for another member of each family.
func touches(pkgs []pkg) []figure {
	var all []figure
	for _, f := range families() {
		files := mentionsOf(f, "rules", pkgs).touched()
		all = append(all, figure{name: f.name, n: f.count(files), why: files})
	}
	return all
}

// count gives how many files are to be touched for another member, but for the one that uses it.
func (f family) count(files []string) int {
	if f.used {
		return len(files) - 1
	}
	return len(files)
}

// limitOf gives how many files may have to be touched for another member of a family.
func limitOf(name string) int {
	for _, f := range families() {
		if f.name == name {
			return f.limit
		}
	}
	return 0
}

// users gives the declarations that use a name of a package, sorted, but for those for tests.
func users(pkgs []pkg, declaring, name string) []string {
	var at string
	for _, p := range pkgs {
		for _, o := range p.info.Defs {
			if p.path == declaring && o != nil && o.Name() == name && o.Parent() == o.Pkg().Scope() {
				at = p.place(o)
			}
		}
	}
	var out []string
	for _, p := range pkgs {
		if p.forTests() {
			continue
		}
		p.eachDecl(func(user string, n ast.Node) {
			ast.Inspect(n, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok {
					if o := p.info.Uses[id]; o != nil && o.Pos().IsValid() && p.place(o) == at {
						out = append(out, user)
					}
				}
				return true
			})
		})
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// below gives a file and all of its package that it uses, directly or not.
func below(all uses, file string) []string {
	seen := map[string]bool{}
	reach(all.next(), file, seen, func(string) {})
	return sortedKeys(seen)
}

// methodsOf gives the files with methods of a type.
func (p pkg) methodsOf(name string) (out []string) {
	for _, f := range p.files {
		if slices.ContainsFunc(f.Decls, func(d ast.Decl) bool {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil {
				return false
			}
			recv := p.info.Defs[fn.Name].(*types.Func).Signature().Recv().Type()
			if ptr, isPtr := recv.(*types.Pointer); isPtr {
				recv = ptr.Elem()
			}
			named, ok := recv.(*types.Named)
			return ok && named.Obj().Name() == name
		}) {
			out = append(out, p.file(f))
		}
	}
	return out
}

// imports gives what a file of a package imports.
func (p pkg) imports(name string) []string {
	var out []string
	for _, f := range p.files {
		if p.file(f) == name {
			for _, i := range f.Imports {
				out = append(out, strings.Trim(i.Path.Value, `"`))
			}
		}
	}
	return out
}
