// SPDX-License-Identifier: Apache-2.0

// Report makes docs/conformance.md of the junit files of a run of Kubernetes' own specs:
//
//	report -version VERSION -o docs/conformance.md DIR
//
// DIR has a folder for each column of the page: nftproxy, kube-proxy, and those with IPv6 first. A spec that fails with
// nftproxy and passes with kube-proxy is an error. With an empty -o no page is written.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/e2e/upstream"
)

func main() {
	version := flag.String("version", "unknown", "nftproxy's `version`")
	module := flag.String("module", "e2e/cluster/go.mod", "the `file` that says which Kubernetes it is")
	page := flag.String("o", "docs/conformance.md", "the `page` to write")
	flag.Parse()
	if err := report(flag.Arg(0), *module, *version, *page); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

// columns are the folders, each of nftproxy's before the one that it is compared with.
var columns = [...]string{"nftproxy", "kube-proxy", "nftproxy-ipv6-first", "kube-proxy-ipv6-first"}

func report(dir, module, version, page string) error {
	list, err := upstream.Specs()
	if err != nil {
		return err
	}
	run := upstream.Run{Nftproxy: version, Date: time.Now().UTC().Format(time.DateOnly)}
	if run.Kubernetes, run.Kernel, err = versions(module); err != nil {
		return err
	}
	results := map[string]upstream.Results{}
	for _, name := range columns {
		files, err := filepath.Glob(filepath.Join(dir, name, "*.xml"))
		if err != nil {
			return err
		}
		if len(files) == 0 {
			continue
		}
		results[name] = upstream.Results{}
		for _, file := range files { // in the order of their names, which is that of the tries
			if err := add(results[name], file); err != nil {
				return err
			}
		}
		run.Columns = append(run.Columns, upstream.Column{Name: name, Results: results[name]})
	}
	if len(run.Columns) == 0 {
		return fmt.Errorf("no results in %s", dir)
	}
	if page != "" {
		if err := os.WriteFile(page, []byte(upstream.Page(list, run)), 0o644); err != nil {
			return err
		}
	}
	return worse(list, results)
}

// worse returns an error of specs that fail with nftproxy only.
func worse(list []upstream.Spec, results map[string]upstream.Results) error {
	var errs []error
	for i := 0; i < len(columns); i += 2 {
		if bad := upstream.Worse(list, results[columns[i]], results[columns[i+1]]); len(bad) > 0 {
			errs = append(errs, fmt.Errorf("fails with %s, not with %s:\n%s", columns[i], columns[i+1], strings.Join(bad, "\n")))
		}
	}
	return errors.Join(errs...)
}

func add(r upstream.Results, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := r.Add(f); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

var kubernetes = regexp.MustCompile(`(?m)^\tk8s\.io/kubernetes v(\S+)`)

// versions returns Kubernetes' and the kernel's.
func versions(module string) (k8s, kernel string, err error) {
	text, err := os.ReadFile(module)
	if err != nil {
		return "", "", err
	}
	m := kubernetes.FindSubmatch(text)
	if m == nil {
		return "", "", fmt.Errorf("%s does not require k8s.io/kubernetes", module)
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	kernel, _, _ = strings.Cut(strings.TrimSpace(string(release)), "-") // without what a distribution appends
	return string(m[1]), kernel, err
}
