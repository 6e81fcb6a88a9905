// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"encoding/json"
	"maps"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// cniDir is where Debian's containernetworking-plugins are.
const cniDir = "/usr/lib/cni"

// Where pods of the plugins are, a part of the node's range, and the bridge's addresses there.
const (
	pluginPods4, pluginGateway4 = "10.244.1.128/25", "10.244.1.129"
	pluginPods6, pluginGateway6 = "fd00:10:244:1:1::/80", "fd00:10:244:1:1::1"
)

// cni calls real plugins as a container runtime does.
type cni struct {
	w   *world
	dir string // of host-local's files
}

// pluginPod is a pod that plugins have connected.
type pluginPod struct {
	netns.Host
	result json.RawMessage // of the last plugin
}

func newCNI(t *testing.T, w *world, plugins ...string) *cni {
	t.Helper()
	for _, p := range plugins {
		netnstest.Tool(t, filepath.Join(cniDir, p))
	}
	return &cni{w, t.TempDir()}
}

// call calls a plugin for a container, on the node, and returns what it prints.
func (c *cni) call(t *testing.T, command, plugin string, pod *netns.NS, config map[string]any) json.RawMessage {
	t.Helper()
	all := map[string]any{"cniVersion": "0.4.0", "name": "pods", "type": plugin}
	maps.Copy(all, config)
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(patient(t), filepath.Join(cniDir, plugin))
	cmd.Env = []string{"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + pod.Name(), "CNI_NETNS=" + pod.Path(), "CNI_IFNAME=eth0",
		"CNI_PATH=" + cniDir, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdin = strings.NewReader(string(text))
	var out []byte
	if err := c.w.Node.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err }); err != nil {
		t.Fatalf("CNI plugin %s: %s of %s: %v\n%s", plugin, command, pod.Name(), err, out)
	}
	return out
}

// bridged connects a new pod to the node's bridge, with the plugin of that name. Its server answers as those of other pods.
func (c *cni) bridged(t *testing.T, name string) pluginPod {
	t.Helper()
	ns, err := netns.New(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	p := pluginPod{Host: netns.Host{NS: ns}}
	p.result = c.call(t, "ADD", "bridge", ns, map[string]any{"bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipam": map[string]any{
		"type": "host-local", "dataDir": c.dir, "ranges": [][]map[string]string{{{"subnet": pluginPods4}}, {{"subnet": pluginPods6}}},
		"routes": []map[string]string{{"dst": "0.0.0.0/0"}, {"dst": "::/0"}}}})
	var result struct {
		IPs []struct{ Address netip.Prefix }
	}
	if err := json.Unmarshal(p.result, &result); err != nil {
		t.Fatalf("read the plugin's result: %v\n%s", err, p.result)
	}
	for _, ip := range result.IPs {
		if a := ip.Address.Addr(); a.Is6() {
			p.V6 = a
		} else {
			p.V4 = a
		}
	}
	serve(t, []uint16{backendPort}, p.Host)
	return p
}

// hostPort forwards a port of the node to a pod's backendPort, in TCP and UDP, with the plugin portmap. It returns how to take it away.
func (c *cni) hostPort(t *testing.T, p pluginPod, port uint16) (remove func()) {
	t.Helper()
	var mappings []map[string]any
	for _, protocol := range []string{"tcp", "udp"} {
		mappings = append(mappings, map[string]any{"hostPort": port, "containerPort": backendPort, "protocol": protocol})
	}
	config := map[string]any{"snat": true, "capabilities": map[string]bool{"portMappings": true},
		"runtimeConfig": map[string]any{"portMappings": mappings}, "prevResult": p.result}
	c.call(t, "ADD", "portmap", p.NS, config)
	return func() { c.call(t, "DEL", "portmap", p.NS, config) }
}

// bridgeFilters says whether what a bridge forwards goes through the node's rules, and false, false where the kernel has no
// br_netfilter. It can be switched in the node's namespace.
func bridgeFilters(t *testing.T, w *world) (can bool, set func(on bool)) {
	t.Helper()
	const first = "bridge/bridge-nf-call-iptables"
	if _, err := w.Node.Sysctl(first); err != nil {
		return false, nil
	}
	return true, func(on bool) {
		value := map[bool]string{false: "0", true: "1"}[on]
		for _, name := range []string{first, "bridge/bridge-nf-call-ip6tables"} {
			if err := w.Node.SetSysctl(name, value); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestBridge: pods on a Linux bridge, connected by the CNI plugin bridge. From one to a Service whose endpoint is on the same bridge the
// answer passes the node's rules by, unless br_netfilter takes it there or the connection is masqueraded. All else works as with any pods.
func TestBridge(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name            string
		filters, masked bool
	}{{"plain", false, false}, {"br_netfilter", true, false}, {"masquerade-all", false, true}, {"both", true, true}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, config{args: map[bool][]string{true: {"--masquerade-all"}}[tt.masked]})
			c := newCNI(t, w, "bridge", "host-local")
			a, b, client := c.bridged(t, "bridged-a"), c.bridged(t, "bridged-b"), c.bridged(t, "bridged-client")
			switch can, set := bridgeFilters(t, w); {
			case can:
				set(tt.filters)
			case tt.filters:
				t.Skip("the kernel has no br_netfilter")
			}
			far := w.RemotePods[0]
			near, all := w.service("near").to(ready(a.Host, b.Host)), w.service("all").to(ready(a.Host, far, w.Local[0]))
			w.apply(t, near, all)
			each(t, func(t *testing.T, p traffic.Protocol, f netns.Family) {
				for _, from := range []netns.Host{w.Client, w.Node, w.Outside} {
					w.want(t, from, p, near.at(f, servicePort), spread(a.Host, b.Host).seen(anySource))
					w.want(t, from, p, all.at(f, servicePort), spread(a.Host, far, w.Local[0]).seen(anySource))
				}
				for _, from := range []netns.Host{client.Host, a.Host} {
					if tt.filters || tt.masked {
						w.want(t, from, p, near.at(f, servicePort), spread(a.Host, b.Host).seen(anySource))
						w.want(t, from, p, all.at(f, servicePort), spread(a.Host, far, w.Local[0]).seen(anySource))
					}
				}
				if !tt.filters && !tt.masked { // else this test proves nothing
					quick := traffic.Client{NS: client.NS, Timeout: dropTimeout}
					if r := quick.Connect(t.Context(), p, near.at(f, servicePort)); r.Outcome == traffic.Answered {
						t.Errorf("without br_netfilter: %s", r)
					}
				}
			})
			w.checkSaysBridge(t, !tt.filters)
		})
	}
}

// checkSaysBridge: 'nftproxy check' warns where such connections get no answer.
func (w *world) checkSaysBridge(t *testing.T, want bool) {
	t.Helper()
	out, _ := proxy.Run(patient(t), w.process("check", "--manifests", w.manifests.Dir)) // other warnings are none of this test's
	if got := strings.Contains(out, "endpoint on its own bridge gets no answer"); got != want {
		t.Errorf("check warns of the bridge: %v, want %v\n%s", got, want, out)
	}
}

// atNodePort makes a Service one with a NodePort, the same number in each protocol.
func atNodePort(number uint16) option {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeNodePort
		for _, p := range traffic.Protocols() {
			port(strings.ToLower(p.String()), p, servicePort, backendPort)(s)
		}
		for i := range s.Spec.Ports {
			s.Spec.Ports[i].NodePort = int32(number)
		}
	}
}

// TestHostPorts: the CNI plugin portmap, with its rules of iptables, beside a Service's ports, for the same pods.
func TestHostPorts(t *testing.T) {
	t.Parallel()
	netnstest.Tool(t, "iptables")
	w := newWorld(t, config{args: []string{"--masquerade-all", "--nodeport-addresses", "0.0.0.0/0,::/0"}})
	c := newCNI(t, w, "bridge", "host-local", "portmap")
	pod, other := c.bridged(t, "with-host-port"), c.bridged(t, "bridged")
	const hostPort, nodePort = 8081, 30080
	s := w.service("web", atNodePort(nodePort)).to(ready(pod.Host, w.RemotePods[0]))
	w.apply(t, s)
	froms := []netns.Host{w.Outside, w.Remote, w.Node, w.Client, other.Host, pod.Host}
	protocols := []traffic.Protocol{traffic.TCP, traffic.UDP}
	want := func(what string, port uint16, want expected) {
		t.Helper()
		for _, f := range netns.Families() {
			for _, p := range protocols {
				for _, from := range froms {
					if err := w.check(t.Context(), from, p, netip.AddrPortFrom(w.Node.Addr(f), port), want); err != nil {
						t.Errorf("%s: from %s to port %d %s over %s: %v", what, from.Name(), port, p, f, err)
					}
				}
			}
		}
	}
	service := spread(pod.Host, w.RemotePods[0]).seen(anySource)
	mapped := spread(pod.Host).seen(anySource)
	remove := c.hostPort(t, pod, hostPort)
	want("a host port", hostPort, mapped)
	want("a NodePort beside it", nodePort, service)
	w.wantEverywhere(t, s, service)
	w.want(t, w.Node, traffic.TCP, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), hostPort), mapped)
	rules := func() string { return w.run(t, "dump", "--kernel") }
	before := rules()
	remove()
	want("the host port is gone", hostPort, refused())
	want("the NodePort stays", nodePort, service)
	if after := rules(); after != before {
		t.Errorf("the plugin has changed the Services' tables: before\n%s\nafter\n%s", before, after)
	}
	c.hostPort(t, other, hostPort)
	want("another pod has it", hostPort, spread(other.Host).seen(anySource))

	// One of the same number: of two nat chains of the same priority the kernel asks the later one first.
	c.hostPort(t, other, nodePort)
	want("a host port of the NodePort's number", nodePort, spread(other.Host).seen(anySource))
	w.want(t, w.Outside, traffic.SCTP, netip.AddrPortFrom(w.Node.V4, nodePort), service)
	w.stop(t)
	w.run(t, "cleanup")
	w.nftproxy = nil
	want("without nftproxy", nodePort, spread(other.Host).seen(anySource))
	want("without nftproxy", hostPort, spread(other.Host).seen(anySource))
	w.start(t)
	want("nftproxy comes back", nodePort, service)
	want("nftproxy comes back", hostPort, spread(other.Host).seen(anySource))
}
