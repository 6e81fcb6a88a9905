// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"fmt"
	"path/filepath"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// cniBinDir is where Debian's containernetworking-plugins are.
const cniBinDir = "/usr/lib/cni"

// containerdConfig works without CAP_SYS_RESOURCE.
func containerdConfig(c nodeConfig) string {
	return fmt.Sprintf(`version = 3
root = %[1]q
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs", "io.containerd.differ.v1.erofs"]
[grpc]
  address = %[2]q
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = %[3]q
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = [%[4]q]
  conf_dir = %[5]q
[plugins.'io.containerd.grpc.v1.cri']
  stream_server_address = "127.0.0.1"
`, filepath.Join(c.Dir, "containerd"), c.containerdSocket(), pauseImage, cniBinDir, filepath.Join(c.Dir, "net.d"))
}

// kubeletConfig works without CAP_SYS_RESOURCE, with control groups of version 1, and
// on a disk that is almost full. A node whose kubelet is gone is noticed in seconds.
func kubeletConfig(c nodeConfig, cgroup string) string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://%[1]s
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /%[2]s
cgroupsPerQOS: false
enforceNodeAllocatable: []
evictionHard: {memory.available: 1Mi, nodefs.available: 1Mi, imagefs.available: 1Mi}
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
nodeLeaseDurationSeconds: 8
nodeStatusUpdateFrequency: 2s
registerNode: true
resolvConf: %[3]s
volumePluginDir: %[4]s
`, c.containerdSocket(), cgroup, filepath.Join(c.Dir, resolvFile), filepath.Join(c.Dir, "volume-plugins"))
}

// cniConfig connects the pods of node i to the node by a veth pair each, or all to one bridge, and their host ports if that is
// asked for.
func cniConfig(i int, config Config) string {
	connect, portmap := `"type": "ptp"`, ""
	if config.Bridge {
		connect = `"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true`
	}
	if config.HostPorts {
		portmap = `, {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}`
	}
	return fmt.Sprintf(`{"cniVersion": "0.4.0", "name": "pods", "plugins": [{%s, "ipam": {
  "type": "host-local", "dataDir": "/run/cni",
  "ranges": [[{"subnet": %q}], [{"subnet": %q}]],
  "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}%s]}
`, connect, netns.NodePods(netns.IPv4, i), netns.NodePods(netns.IPv6, i), portmap)
}
