// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// standard is what Go's standard library is called among modules.
const standard = "std"

// notices are the licences of what is linked, the program's own module and Go's standard library included.
type notices struct {
	texts map[string][]string // by module: the texts of its licences and notices, in the order of their files
	ids   map[string]string   // by module: an SPDX expression, such as MIT or Apache-2.0 AND BSD-3-Clause
}

// linked is a package of a binary, and its module.
type linked struct{ dir, module, moduleDir string }

// collect finds the licences of all that the program links on any of the targets.
func collect(ctx context.Context, root string, targets []target) (notices, error) {
	n := notices{map[string][]string{}, map[string]string{}}
	files := map[string]map[string]bool{} // by module: paths
	for _, t := range targets {
		packages, err := packagesOf(ctx, root, t)
		if err != nil {
			return n, err
		}
		for _, p := range packages {
			if files[p.module] == nil {
				files[p.module] = map[string]bool{}
			}
			if err := p.licences(files[p.module]); err != nil {
				return n, err
			}
		}
	}
	goroot, err := command(ctx, root, nil, "go", "env", "GOROOT")
	if err != nil {
		return n, err
	}
	files[standard] = map[string]bool{}
	if err := licencesIn(strings.TrimSpace(goroot), files[standard]); err != nil {
		return n, err
	}
	for module, paths := range files {
		if err := n.add(module, slices.Sorted(maps.Keys(paths))); err != nil {
			return n, err
		}
	}
	return n, nil
}

// packagesOf lists the packages that are linked for a target, but for those of the standard library.
func packagesOf(ctx context.Context, root string, t target) ([]linked, error) {
	const format = `{{if not .Standard}}{{.Dir}}{{"\t"}}{{.Module.Path}}{{"\t"}}{{.Module.Dir}}{{end}}`
	env := []string{"GOOS=" + t.os, "GOARCH=" + t.arch, "CGO_ENABLED=0"}
	text, err := command(ctx, root, env, "go", "list", "-deps", "-f", format, "./cmd/nftproxy")
	if err != nil {
		return nil, err
	}
	var out []linked
	for line := range strings.Lines(text) {
		if f := strings.Split(strings.TrimSpace(line), "\t"); len(f) == 3 {
			out = append(out, linked{f[0], f[1], f[2]})
		}
	}
	return out, nil
}

// licences adds the files that count for a package: those in its folder and in the folders above, up to its module's.
func (p linked) licences(files map[string]bool) error {
	for dir := p.dir; ; dir = filepath.Dir(dir) {
		if err := licencesIn(dir, files); err != nil {
			return err
		}
		if dir == p.moduleDir || len(dir) <= len(p.moduleDir) {
			return nil
		}
	}
}

// licencesIn adds the licences and notices of a folder.
func licencesIn(dir string, files map[string]bool) error {
	names := regexp.MustCompile(`(?i)^((un)?licen[cs]es?|copying|notice|patents)([.-].*)?$`)
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range list {
		if f.Type().IsRegular() && names.MatchString(f.Name()) && filepath.Ext(f.Name()) != ".go" {
			files[filepath.Join(dir, f.Name())] = true
		}
	}
	return nil
}

// add reads a module's licences and tells what they are.
func (n notices) add(module string, files []string) error {
	var ids []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		n.texts[module] = append(n.texts[module], strings.TrimSpace(string(text)))
		name := strings.ToLower(filepath.Base(file))
		if strings.HasPrefix(name, "notice") || strings.HasPrefix(name, "patents") {
			continue // no licence, but a part of one's terms
		}
		found, err := identify(file, text)
		if err != nil {
			return err
		}
		ids = append(ids, found...)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if len(ids) == 0 {
		return fmt.Errorf("module %s is linked and has no licence that this program finds: it cannot be distributed like this", module)
	}
	n.ids[module] = strings.Join(ids, " AND ")
	return nil
}

// allowed are the licences under which the program may link something. Others need somebody's thought.
func allowed(id string) bool {
	return slices.Contains([]string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "Zlib", "0BSD"}, id)
}

// identify tells the SPDX names of the licences in a text.
func identify(file string, text []byte) ([]string, error) {
	var ids []string
	for _, m := range licensecheck.Scan(text).Match {
		if m.IsURL {
			continue
		}
		if !allowed(m.ID) {
			return nil, fmt.Errorf("%s has the licence %s, which is not on the list of those that may be linked (licences.go)", file, m.ID)
		}
		ids = append(ids, m.ID)
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("%s is no licence that is known: read it, and name it in licences.go", file)
	}
	return ids, nil
}

// text is all licences as one text. What several modules have in common is there once.
func (n notices) text() []byte {
	users := map[string][]string{}
	for module, texts := range n.texts {
		for _, text := range texts {
			users[text] = append(users[text], module)
		}
	}
	order := slices.SortedFunc(maps.Keys(users), func(a, b string) int {
		slices.Sort(users[a])
		slices.Sort(users[b])
		if c := slices.Compare(users[a], users[b]); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	var b bytes.Buffer
	b.WriteString("nftproxy contains these modules, under these licences:\n\n")
	for _, module := range slices.Sorted(maps.Keys(n.ids)) {
		fmt.Fprintf(&b, "%s: %s\n", module, n.ids[module])
	}
	for _, text := range order {
		fmt.Fprintf(&b, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(slices.Compact(users[text]), "\n"), text)
	}
	return b.Bytes()
}

// command runs a program in a folder, with more in its environment, and returns what it prints.
func command(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run %s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
