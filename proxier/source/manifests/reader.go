// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"crypto/sha256"
	"maps"
	"slices"

	"github.com/nftproxy/nftproxy/proxier/source"
)

// reader reads files into a catalog of objects.
type reader struct {
	dir      string
	ours     source.ProxyName
	warn     func(error)
	catalog  *catalog
	sums     map[string][sha256.Size]byte // of the content last parsed, by file
	problems map[string]string            // the reason last told why a file cannot be read, by file
}

func newReader(dir string, ours source.ProxyName, warn func(error)) *reader {
	return &reader{
		dir: dir, ours: ours, warn: warn, catalog: newCatalog(),
		sums: map[string][sha256.Size]byte{}, problems: map[string]string{},
	}
}

// loadAll reads all files, and forgets those that are gone.
func (r *reader) loadAll() error {
	names, err := listManifests(r.dir)
	if err != nil {
		return err
	}
	names = slices.AppendSeq(names, maps.Keys(r.sums))
	names = slices.AppendSeq(names, maps.Keys(r.problems))
	slices.Sort(names)
	_, err = r.read(slices.Compact(names))
	return err
}

// load reads the named files, and, if some are gone, those that are new: the kernel tells of a file's two names one after the other,
// and what has another name now is not gone.
func (r *reader) load(names []string) error {
	gone, err := r.read(names)
	if err != nil || !gone {
		return err
	}
	all, err := listManifests(r.dir)
	if err != nil {
		return err
	}
	_, err = r.read(slices.DeleteFunc(all, r.knows))
	return err
}

// read reads the named files, and says whether some are gone. It stops without a further change if the directory itself turns out to
// be gone.
func (r *reader) read(names []string) (gone bool, err error) {
	for _, name := range names {
		data, found, err := readManifest(r.dir, name)
		switch {
		case err != nil:
			r.unreadable(name, err)
		case found:
			r.parse(name, data)
		default:
			// The file is only gone if its directory is still there.
			if _, err := listable(r.dir); err != nil {
				return gone, err
			}
			r.forget(name)
			gone = true
		}
	}
	return gone, nil
}

// knows says whether a file was read before, or could not be.
func (r *reader) knows(name string) bool {
	_, read := r.sums[name]
	_, problem := r.problems[name]
	return read || problem
}

func (r *reader) parse(name string, data []byte) {
	delete(r.problems, name)
	sum := sha256.Sum256(data)
	if last, ok := r.sums[name]; ok && last == sum {
		return
	}
	r.sums[name] = sum
	objects, faults := parseManifest(name, data, r.ours)
	for _, f := range faults {
		r.warn(f)
	}
	if len(faults) == 0 {
		r.catalog.set(name, objects)
	}
}

func (r *reader) forget(name string) {
	delete(r.problems, name)
	delete(r.sums, name)
	r.catalog.set(name, nil)
}

func (r *reader) unreadable(name string, err error) {
	if r.problems[name] == err.Error() {
		return
	}
	r.problems[name] = err.Error()
	r.warn(&FileError{File: name, Reason: err.Error()})
}

// changes returns what the loads since the last call changed, and warns of objects that are now hidden by another file's.
func (r *reader) changes() []change {
	for _, name := range r.catalog.lacking() {
		delete(r.sums, name) // it is read as if it had changed
		if err := r.load([]string{name}); err != nil {
			r.warn(err)
		}
	}
	changes, hidden := r.catalog.settle()
	for _, h := range hidden {
		r.warn(h)
	}
	return changes
}
