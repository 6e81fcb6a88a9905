// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
)

// TestResolve finds the options by the command line, a configuration file, and the
// nftproxy that runs here, in this order.
func TestResolve(t *testing.T) {
	const config = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clusterCIDR: 10.9.0.0/16
bindAddress: 10.0.0.9
nodePortAddresses: [10.0.0.0/8]
nftables: {masqueradeBit: 9}
clientConnection: {kubeconfig: proxy.conf}
`
	const run = "/nftproxy\x00--v=2\x00run\x00"
	for _, tt := range []struct {
		name, args, cmdline, mnt string
		want, told               string
		theirRoot                string // of the process; default /
	}{
		{name: "none runs", args: "--cluster-cidr=10.1.0.0/16", want: "cidr=10.1.0.0/16 bit=14 node= bind=0.0.0.0 source= given=false"},
		{name: "flags of the one that runs", cmdline: run + "--cluster-cidr=10.2.0.0/16\x00--nodeport-addresses=all,localhost\x00--manifests\x00services\x00--service-metrics",
			want: "cidr=10.2.0.0/16 bit=14 node= bind=0.0.0.0 ports=[all,localhost] source=DIR/services counts given=true"},
		{name: "its configuration file", cmdline: run + "--config=config.conf\x00--hostname-override=here",
			want: "cidr=10.9.0.0/16 bit=9 node=here bind=10.0.0.9 ports=[10.0.0.0/8] source=DIR/proxy.conf given=true"},
		{name: "flags above it", args: "--hostname-override=there --nodeport-addresses=all", cmdline: run + "--config=config.conf\x00--hostname-override=here",
			want: "cidr=10.9.0.0/16 bit=9 node=there bind=10.0.0.9 ports=[all] source=DIR/proxy.conf given=true"},
		{name: "a bit above it", args: "--masquerade_bit=3", cmdline: run + "--config=config.conf\x00--hostname_override=here",
			want: "cidr=10.9.0.0/16 bit=3 node=here bind=10.0.0.9 ports=[10.0.0.0/8] source=DIR/proxy.conf given=true"},
		{name: "a source", args: "--manifests=mine", cmdline: run + "--config=config.conf",
			want: "cidr= bit=14 node= bind=0.0.0.0 source=mine given=true"},
		{name: "a configuration file", args: "--config=DIR/config.conf --hostname-override=me --cluster-cidr=10.1.0.0/16", cmdline: run + "--manifests=services",
			want: "cidr=10.9.0.0/16 bit=9 node=me bind=10.0.0.9 ports=[10.0.0.0/8] source=proxy.conf given=true"},
		{name: "one in another mount namespace", cmdline: run + "--manifests=services", mnt: "mnt:[2]",
			want: "cidr= bit=14 node= bind=0.0.0.0 source=DIR/services given=true"},
		{name: "one with other files", cmdline: run + "--cluster-cidr=10.2.0.0/16", mnt: "mnt:[2]", theirRoot: "/proc",
			want: "cidr= bit=14 node= bind=0.0.0.0 source= given=false",
			told: "process 7, but its options are not taken over: it has other files, as in a container"},
		{name: "one of another name", args: "--service-proxy-name=mine", cmdline: run + "--cluster-cidr=10.2.0.0/16",
			want: "cidr= bit=14 node= bind=0.0.0.0 source= given=false"},
		{name: "the one of a name", args: "--service-proxy-name=mine", cmdline: run + "--cluster-cidr=10.2.0.0/16\x00--service-proxy-name=mine",
			want: "cidr=10.2.0.0/16 bit=14 node= bind=0.0.0.0 source= given=true"},
		{name: "a file that is wrong", cmdline: run + "--config=wrong.conf",
			want: "read the options of the nftproxy that runs here as process 7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root, dir := t.TempDir(), t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, "config.conf"), []byte(config), 0o600))
			must(t, os.WriteFile(filepath.Join(dir, "proxy.conf"), nil, 0o600))
			must(t, os.Mkdir(filepath.Join(dir, "services"), 0o700))
			must(t, os.WriteFile(filepath.Join(dir, "wrong.conf"), []byte(config+"mode: none\n"), 0o600))
			process := func(pid, cmdline, mnt, theirRoot string) {
				fakeProcess(t, root, pid, "nftproxy", cmdline, "net:[1]")
				for name, to := range map[string]string{"ns/mnt": mnt, "cwd": dir, "root": theirRoot} {
					must(t, os.Remove(filepath.Join(root, "proc", pid, name)))
					must(t, os.Symlink(to, filepath.Join(root, "proc", pid, name)))
				}
			}
			process("self", "nftproxy\x00diff", "mnt:[1]", "/")
			if tt.cmdline != "" {
				process("7", tt.cmdline+"\x00", cmp.Or(tt.mnt, "mnt:[1]"), cmp.Or(tt.theirRoot, "/"))
			}
			var o wantOptions
			fs := pflag.NewFlagSet("diff", pflag.ContinueOnError)
			fs.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
			o.add(fs)
			must(t, fs.Parse(strings.Fields(strings.ReplaceAll(tt.args, "DIR", dir))))
			var notes []string
			err := o.resolve(fs, root, func(note string) { notes = append(notes, note) })
			if told := strings.Join(notes, "\n"); !strings.Contains(told, tt.told) || (told == "") != (tt.told == "") {
				t.Errorf("told %q, want %q", told, tt.told)
			}
			got := strings.ReplaceAll(o.text(), dir, "DIR")
			if err != nil {
				got = err.Error()
			}
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// text writes the options that the tests give.
func (o *wantOptions) text() string {
	c := &o.kubeProxy
	text := fmt.Sprintf("cidr=%s bit=%d node=%s bind=%s", c.ClusterCIDR, *c.NFTables.MasqueradeBit, c.HostnameOverride, c.BindAddress)
	if list := c.NodePortAddresses; len(list) > 0 {
		text += fmt.Sprintf(" ports=[%s]", strings.Join(list, ","))
	}
	text += " source=" + o.source.manifests + c.ClientConnection.Kubeconfig
	if o.countConnections {
		text += " counts"
	}
	return text + fmt.Sprintf(" given=%t", o.given())
}

// TestKubeconfigFromPipe: diff --kubeconfig <(command) reads what the command writes.
func TestKubeconfigFromPipe(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	_, err = w.WriteString(kubeconfig("https://192.0.2.1:6443"))
	must(t, errors.Join(err, w.Close()))
	var o wantOptions
	o.kubeProxy.ClientConnection.Kubeconfig = fmt.Sprintf("/proc/self/fd/%d", r.Fd())
	if config, err := o.restConfig(); err != nil || config.Host != "https://192.0.2.1:6443" {
		t.Errorf("%+v, %v", config, err)
	}
}
