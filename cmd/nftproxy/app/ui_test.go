// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// TestUI: each example of the help serves the page to who knows its address, and the API of the nftproxy that runs.
func TestUI(t *testing.T) {
	n := newNode(t)
	socket := filepath.Join(t.TempDir(), "TABLE.sock")
	if out, err := n.run("ui", "--socket", socket); err == nil || !strings.Contains(err.Error(), "exit status 2") || !strings.Contains(err.Error()+out, "no nftproxy answers here") {
		t.Errorf("nobody runs: %v, %s", err, out)
	}
	p := n.start("--socket", socket, "-v=1")
	must(t, errors.Join(p.WaitSynced(n.ctx), p.WaitLog(n.ctx, "Commands can ask")))
	if out, err := n.run("ui", "--socket", socket, "--address", "0.0.0.0:0"); err == nil || !strings.Contains(err.Error(), "exit status 2") {
		t.Errorf("for all to see: %v, %s", err, out)
	}
	for line := range strings.Lines(uiCommand("v1").Example) {
		ui, err := proxy.Start(n.command(append(strings.Fields(line)[1:], "--socket", socket)...))
		must(t, err)
		must(t, ui.WaitLog(n.ctx, "Ctrl-C"))
		u, err := url.Parse(regexp.MustCompile(`http://\S+/`).FindString(ui.Log()))
		if err != nil || u.Host == "" {
			t.Fatalf("%s says %q", line, ui.Log())
		}
		for path, want := range map[string]string{
			u.Path:                              "<!doctype html>",
			u.Path + "main.js":                  "import",
			u.Path + "nodes":                    `"nodes":[{"name":"here","trace":true}]`,
			u.Path + "api/0/v1/version":         `"node":"here"`,
			u.Path + "api/0/v1/services":        `"services":[{`,
			u.Path + "trace/0?service=no/such":  "there is no Service no/such",
			u.Path + "trace/0?service=a/b&at=x": `\"x\" is not ADDRESS:PORT`,
			"/":                                 "there is nothing here",
			"/api/0/v1/version":                 "there is nothing here",
		} {
			// HTTP/1.0 has no Host of itself.
			got, _ := n.get(u.Host, path+" HTTP/1.0\r\nHost: "+u.Host+"\r\nX:")
			if !strings.Contains(got, want) {
				t.Errorf("%s: %s: %s; want %q", strings.TrimSpace(line), path, got, want)
			}
		}
		if strings.Contains(ui.Log(), "rror") {
			t.Errorf("%s says\n%s", line, ui.Log())
		}
		must(t, ui.Stop())
	}
}
