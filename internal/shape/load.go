// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// pkg is a package of this module, without its tests, as this system builds it.
type pkg struct {
	// path is the import path below the module, such as proxier/source.
	path  string
	fset  *token.FileSet
	files []*ast.File
	info  *types.Info
}

// listed is what `go list -json` says of a package.
type listed struct {
	Dir, ImportPath, Export string
	GoFiles                 []string
	DepOnly                 bool
	Module                  *struct{ Path string }
}

// load reads the packages that the patterns of `go list` name, in the module at dir.
func load(dir string, patterns ...string) ([]pkg, error) {
	all, err := list(dir, patterns)
	if err != nil {
		return nil, err
	}
	exports := map[string]string{}
	for _, l := range all {
		exports[l.ImportPath] = l.Export
	}
	fset := token.NewFileSet()
	compiled := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("import %s: go list names no compiled form", path)
		}
		return os.Open(exports[path])
	})
	var pkgs []pkg
	for _, l := range all {
		if l.DepOnly || l.Module == nil {
			continue
		}
		p, err := check(l, fset, compiled)
		if err != nil {
			return nil, err
		}
		pkgs = append(pkgs, p)
	}
	return pkgs, nil
}

// list compiles what the packages import, and says where the results are.
func list(dir string, patterns []string) ([]listed, error) {
	var stderr bytes.Buffer
	args := append([]string{"list", "-export", "-deps", "-json=Dir,ImportPath,Export,GoFiles,DepOnly,Module", "--"}, patterns...)
	cmd := exec.Command("go", args...) //nolint:gosec // the arguments are those of whoever runs it
	cmd.Dir, cmd.Stderr = dir, &stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run go list: %w\n%s", err, stderr.Bytes())
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the output of go list: %w", err)
		}
		all = append(all, l)
	}
}

// check parses a package and finds what each of its names means.
func check(l listed, fset *token.FileSet, compiled types.Importer) (pkg, error) {
	p := pkg{path: l.ImportPath, fset: fset, info: &types.Info{
		Defs:       map[*ast.Ident]types.Object{},
		Uses:       map[*ast.Ident]types.Object{},
		Selections: map[*ast.SelectorExpr]*types.Selection{},
	}}
	if rest, ok := strings.CutPrefix(l.ImportPath, l.Module.Path+"/"); ok {
		p.path = rest
	}
	for _, name := range l.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(l.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return pkg{}, fmt.Errorf("parse %s: %w", l.ImportPath, err)
		}
		p.files = append(p.files, f)
	}
	conf := types.Config{Importer: compiled, Sizes: types.SizesFor("gc", runtime.GOARCH)}
	if _, err := conf.Check(l.ImportPath, fset, p.files, p.info); err != nil {
		return pkg{}, fmt.Errorf("check the types of %s: %w", l.ImportPath, err)
	}
	return p, nil
}
