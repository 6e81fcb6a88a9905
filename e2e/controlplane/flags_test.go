// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"flag"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/app"
)

// TestKubeProxyFlags: nftproxy run takes every flag of the real kube-proxy, with its
// default value.
func TestKubeProxyFlags(t *testing.T) {
	n := 0
	kubeproxy.NewProxyCommand().Flags().VisitAll(func(f *pflag.Flag) {
		if flag.Lookup(f.Name) != nil || flag.Lookup(strings.ReplaceAll(f.Name, "-", "_")) != nil && f.Name != "boot-id-file" && f.Name != "machine-id-file" {
			return // of this test or of another server in this program
		}
		n++
		var out bytes.Buffer
		if code := app.Run(t.Context(), "v1", []string{"run", "--" + f.Name + "=" + f.DefValue, "--version"}, &out, &out); code != 0 {
			t.Errorf("--%s=%s: %s", f.Name, f.DefValue, &out)
		}
	})
	if n < 50 {
		t.Errorf("kube-proxy has %d flags, want some 60", n)
	}
}
