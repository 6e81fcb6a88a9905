// SPDX-License-Identifier: Apache-2.0

package lock

import (
	"strings"
	"testing"
	"time"
)

func TestRecord(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, r := range []record{
		{Process: Process{PID: 7, Version: "v1.2.3", Since: since}, socket: strings.Repeat("a1", 16), netlink: netlinkSocket{7, 12345}},
		{Process: Process{PID: 1, Version: "v1.2.3-4-gabcdef+dirty", Since: since, Container: "0123456789ab"}, socket: strings.Repeat("00", 16)},
	} {
		if got := parseRecord(r.text()); got != r {
			t.Errorf("%q is read as %+v, want %+v", r.text(), got, r)
		}
	}
	odd := record{Process: Process{PID: 1 << 30, Version: "v1 \"\x1b[31m\n pid=9 " + strings.Repeat("x", 1000), Since: since, Container: strings.Repeat("y", 100)},
		socket: strings.Repeat("a1", 16), netlink: netlinkSocket{1<<32 - 1, 1<<64 - 1}}
	text := odd.text()
	if len(text) > longestComment || strings.ContainsAny(text, "\"\x1b\n") {
		t.Errorf("%d bytes: %q", len(text), text)
	}
	if got := parseRecord(text); got.PID != odd.PID || got.netlink != odd.netlink || got.socket != odd.socket {
		t.Errorf("%q is read as %+v", text, got)
	}
	for _, text := range []string{"", "=", "pid", "pid=x netlink=/ socket=../../x version== since=never", "socket=" + strings.Repeat("A", 32)} {
		if got := parseRecord(text); got.PID != 0 || got.socket != "" || got.netlink != (netlinkSocket{}) || !got.Since.IsZero() {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

func TestTableName(t *testing.T) {
	for of, want := range map[string]string{"nftproxy": "nftproxy_lock", "nftproxy-a-b": "nftproxy_lock-a-b", "nftproxy-lock": "nftproxy_lock-lock"} {
		if got := tableName(of); got != want {
			t.Errorf("%s: %s, want %s", of, got, want)
		}
	}
}

func TestContainer(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for _, c := range []struct{ name, cgroup, mounts, want string }{
		{"none", "0::/system.slice/nftproxy.service\n", "", ""},
		{"systemd's cgroup driver", "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-" + id + ".scope\n", "", id[:12]},
		{"cgroupfs, version 1", "12:pids:/kubepods/burstable/pod1-2/" + id + "\n11:cpu:/x\n", "", id[:12]},
		{"Docker", "0::/system.slice/docker-" + id + ".scope\n", "", id[:12]},
		{"a cgroup namespace", "0::/\n", "1 2 0:3 /var/lib/docker/containers/" + id + "/hostname /etc/hostname rw - ext4 /dev/a rw\n", id[:12]},
		{"another's mounts", "0::/user.slice\n", "1 2 0:3 / /run/containerd/io.containerd.runtime.v2.task/k8s.io/" + id + "/rootfs rw - overlay overlay rw\n", ""},
	} {
		if got := findContainer(c.cgroup, c.mounts); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
