// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// What archives and packages have besides the program.
const (
	licenceFile    = "LICENSE"
	noticesFile    = "THIRD-PARTY-LICENSES"
	manPage        = "man/nftproxy.1"
	bashCompletion = "completions/nftproxy.bash"
	zshCompletion  = "completions/_nftproxy"
	fishCompletion = "completions/nftproxy.fish"
)

// documents are the licences, the manual and the shells' completions. The program itself says the latter: the one for this machine.
func (r release) documents(ctx context.Context, targets []target, n notices) ([]entry, error) {
	own, err := os.ReadFile(filepath.Join(r.root, licenceFile))
	if err != nil {
		return nil, err
	}
	here := target{runtime.GOOS, runtime.GOARCH}
	if !slices.Contains(targets, here) {
		return nil, fmt.Errorf("there is no binary for %s, on which this runs: it is asked for its help and completions", here)
	}
	program, err := filepath.Abs(r.binary(here))
	if err != nil {
		return nil, err
	}
	out := []entry{{name: licenceFile, data: own}, {name: noticesFile, data: n.text()}}
	for shell, file := range map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion} {
		text, err := command(ctx, r.root, nil, program, "completion", shell)
		if err != nil {
			return nil, err
		}
		out = append(out, entry{name: file, data: []byte(text)})
	}
	manual, err := r.manual(ctx, program)
	if err != nil {
		return nil, err
	}
	out = append(out, entry{name: manPage, data: manual})
	for i := range out {
		out[i].mode = 0o644
	}
	return out, nil
}

// manual makes the manual page of what the program says with --help.
func (r release) manual(ctx context.Context, program string) ([]byte, error) {
	help, err := command(ctx, r.root, nil, program, "--help")
	if err != nil {
		return nil, err
	}
	description, _, _ := strings.Cut(help, "\n\n")
	var b bytes.Buffer
	fmt.Fprintf(&b, ".TH NFTPROXY 1 %s %q\n", r.time.Format(time.DateOnly), "nftproxy "+r.version)
	fmt.Fprintf(&b, ".SH NAME\nnftproxy \\- %s\n.SH SYNOPSIS\n.B nftproxy\n.I command\n[flags]\n", roff(strings.ToLower(summary[:1])+summary[1:]))
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", roff(description))
	for _, name := range commands(help) {
		text, err := command(ctx, r.root, nil, program, name, "--help")
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, ".SH NFTPROXY %s\n.nf\n%s\n.fi\n", strings.ToUpper(name), roff(strings.TrimRight(text, "\n")))
	}
	fmt.Fprintf(&b, ".SH SEE ALSO\n.BR nft (8),\n%s\n", roff(homepage))
	return b.Bytes(), nil
}

// commands lists the commands that the program's help names, but for help itself.
func commands(help string) []string {
	_, list, _ := strings.Cut(help, "\nUsage:\n")
	list, _, _ = strings.Cut(list, "\nFlags:\n")
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z-]+) `).FindAllStringSubmatch(list, -1) {
		if m[1] != "help" && m[1] != "nftproxy" {
			out = append(out, m[1])
		}
	}
	return out
}

// roff escapes text for a manual page.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	return regexp.MustCompile(`(?m)^([.'])`).ReplaceAllString(text, `\&$1`)
}
