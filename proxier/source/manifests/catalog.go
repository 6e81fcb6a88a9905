// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// catalog holds the objects of all files, and decides which file an object is taken from when several define it.
type catalog struct {
	files   map[string]map[key]object // the last good content of each file
	claims  map[key][]claim           // who defines an object, sorted by file name: the first wins
	applied map[key]sum               // what settle has returned so far
	touched map[key]struct{}          // what may differ from applied
}

// claim is one file's definition of an object.
type claim struct {
	file string
	told bool // that another file's definition wins
}

func newCatalog() *catalog {
	return &catalog{
		files:   map[string]map[key]object{},
		claims:  map[key][]claim{},
		applied: map[key]sum{},
		touched: map[key]struct{}{},
	}
}

// set replaces the content of a file. Within objects every key is unique.
func (c *catalog) set(file string, objects []object) {
	had := c.files[file]
	has := make(map[key]object, len(objects))
	for _, o := range objects {
		has[o.key] = o
		c.touched[o.key] = struct{}{}
		if _, ok := had[o.key]; !ok {
			c.claim(o.key, file)
		}
	}
	for k := range had {
		c.touched[k] = struct{}{}
		if _, ok := has[k]; !ok {
			c.unclaim(k, file)
		}
	}
	if len(has) == 0 {
		delete(c.files, file)
		return
	}
	c.files[file] = has
}

func byFile(c claim, file string) int { return cmp.Compare(c.file, file) }

func (c *catalog) claim(k key, file string) {
	i, _ := slices.BinarySearchFunc(c.claims[k], file, byFile)
	c.claims[k] = slices.Insert(c.claims[k], i, claim{file: file})
}

func (c *catalog) unclaim(k key, file string) {
	i, found := slices.BinarySearchFunc(c.claims[k], file, byFile)
	if !found {
		return
	}
	c.claims[k] = slices.Delete(c.claims[k], i, i+1)
	if len(c.claims[k]) == 0 {
		delete(c.claims, k)
	}
}

// settle returns what has changed since the last call, deletions first, and the definitions that have newly lost against another file's.
func (c *catalog) settle() (changes []change, hidden []*FileError) {
	for _, k := range slices.SortedFunc(maps.Keys(c.touched), key.compare) {
		if c.lacks(k) {
			continue // until its file can be read
		}
		delete(c.touched, k)
		if changed, ok := c.decide(k); ok {
			changes = append(changes, changed)
		}
		hidden = append(hidden, c.hidden(k)...)
	}
	slices.SortStableFunc(changes, func(a, b change) int { return cmp.Compare(a.rank(), b.rank()) })
	return changes, hidden
}

// lacks says whether the winning definition of an object is to be applied while its value is no longer kept. That is so if it was
// applied before, and another definition has won in between.
func (c *catalog) lacks(k key) bool {
	claims := c.claims[k]
	if len(claims) == 0 {
		return false
	}
	now := c.files[claims[0].file][k]
	last, had := c.applied[k]
	return now.value == nil && !(had && last == now.sum)
}

// lacking returns the files that must be read again for the values that are lacking.
func (c *catalog) lacking() []string {
	files := map[string]struct{}{}
	for k := range c.touched {
		if c.lacks(k) {
			files[c.claims[k][0].file] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(files))
}

// decide compares the winning definition of an object with the one last applied, and keeps its value no longer.
func (c *catalog) decide(k key) (change, bool) {
	last, had := c.applied[k]
	claims := c.claims[k]
	if len(claims) == 0 {
		delete(c.applied, k)
		return change{key: k}, had
	}
	now := c.files[claims[0].file][k]
	value := now.value
	now.value = nil
	c.files[claims[0].file][k] = now
	if had && last == now.sum {
		return change{}, false
	}
	c.applied[k] = now.sum
	return change{key: k, object: value}, true
}

// hidden reports the definitions of an object that lose, each once as long as it loses.
func (c *catalog) hidden(k key) []*FileError {
	var faults []*FileError
	claims := c.claims[k]
	for i := range claims {
		if i == 0 || claims[i].told {
			claims[i].told = i > 0
			continue
		}
		claims[i].told = true
		winner := claims[0].file
		faults = append(faults, &FileError{
			File: claims[i].file,
			Line: c.files[claims[i].file][k].line,
			Reason: fmt.Sprintf("%s is already defined in %s:%d, and the first file by name wins; this definition is unused until that one is gone",
				k, winner, c.files[winner][k].line),
		})
	}
	return faults
}
