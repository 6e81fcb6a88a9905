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

// arrow says that a file uses something that another file of its package declares: a function, a
// method, a type, a field, a variable or a constant.
type arrow struct{ from, to string }

// uses is what makes an arrow: the names used, sorted.
type uses map[arrow][]string

// arrowsBetween gives all arrows between the files of a package.
func arrowsBetween(p pkg) uses {
	all := uses{}
	for _, f := range p.files {
		from := p.file(f)
		ast.Inspect(f, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			obj := p.info.Uses[id]
			if to := p.declaredIn(obj); to != "" && to != from {
				a := arrow{from, to}
				if i, found := slices.BinarySearch(all[a], obj.Name()); !found {
					all[a] = slices.Insert(all[a], i, obj.Name())
				}
			}
			return true
		})
	}
	return all
}

// declaredIn gives the file of this package that declares the object, or "".
func (p pkg) declaredIn(obj types.Object) string {
	if obj == nil || !obj.Pos().IsValid() {
		return ""
	}
	name := p.fset.Position(obj.Pos()).Filename
	for _, f := range p.files {
		if p.fset.Position(f.Pos()).Filename == name {
			return filepath.Base(name)
		}
	}
	return ""
}

// upward gives the arrows that point up in the best layering found: an order of the files in which
// each file uses only those after it, but for the arrows returned. It is empty exactly if no files
// use each other in a circle. The search for fewer is by moving single files, so the smallest
// number is not certain as long as it is not 0.
func upward(all uses) []arrow {
	order := descend(all)
	for best := len(against(all, order)); best > 0; {
		better := moveOne(all, order, best)
		if better == nil {
			break
		}
		order, best = better, len(against(all, better))
	}
	return against(all, order)
}

// descend orders files so that each stands before those which it uses, where circles allow it.
func descend(all uses) []string {
	next := all.next()
	var order []string
	seen := map[string]bool{}
	for _, file := range sortedKeys(next) {
		reach(next, file, seen, func(f string) { order = append(order, f) })
	}
	slices.Reverse(order)
	return order
}

// next gives the files that each file uses, sorted.
func (all uses) next() map[string][]string {
	out := map[string][]string{}
	for a := range all {
		out[a.from] = append(out[a.from], a.to)
		out[a.to] = append(out[a.to], nil...)
	}
	for _, list := range out {
		slices.Sort(list)
	}
	return out
}

// reach calls done for a file, and before that for those which it uses, directly or not, but for those that were seen.
func reach(next map[string][]string, file string, seen map[string]bool, done func(string)) {
	if seen[file] {
		return
	}
	seen[file] = true
	for _, to := range next[file] {
		reach(next, to, seen, done)
	}
	done(file)
}

// moveOne gives an order with fewer arrows against it than best, in which one file stands
// elsewhere; nil if there is none.
func moveOne(all uses, order []string, best int) []string {
	for i := range order {
		without := slices.Delete(slices.Clone(order), i, i+1)
		for j := range order {
			moved := slices.Insert(slices.Clone(without), j, order[i])
			if len(against(all, moved)) < best {
				return moved
			}
		}
	}
	return nil
}

// against gives the arrows from a file to one before it, sorted.
func against(all uses, order []string) []arrow {
	place := map[string]int{}
	for i, file := range order {
		place[file] = i
	}
	var up []arrow
	for a := range all {
		if place[a.from] > place[a.to] {
			up = append(up, a)
		}
	}
	slices.SortFunc(up, func(a, b arrow) int { return strings.Compare(a.String(), b.String()) })
	return up
}

func (a arrow) String() string { return fmt.Sprintf("%s -> %s", a.from, a.to) }
