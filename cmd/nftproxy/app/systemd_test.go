// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
)

const unit = "../../../deploy/systemd/nftproxy.service"

// TestUnit: systemd understands the unit, and leaves the service what it needs and little more.
func TestUnit(t *testing.T) {
	text, err := os.ReadFile(unit)
	must(t, err)
	const want = "\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_NET_ADMIN\n" // which sandbox.Enter keeps
	if !strings.Contains(string(text), want) {
		t.Errorf("the unit does not say %q", strings.TrimSpace(want))
	}
	analyze := netnstest.Tool(t, "systemd-analyze")
	// 2.0 with systemd 252; of 10, and below 2.5 whatever later versions weigh.
	out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold=25", unit).CombinedOutput()
	if err != nil || strings.Contains(string(out), "ignoring") {
		t.Errorf("%v: %s", err, out)
	}
	if netns.InUserNamespace() {
		t.Skip("an ordinary user cannot put the program where the unit has it")
	}
	program, err := os.Executable()
	must(t, err)
	out, err = exec.Command(netnstest.Tool(t, "unshare"), "--mount", "sh", "-ec", `mount --make-rprivate /; mount -t tmpfs none /usr/local/bin
touch /usr/local/bin/nftproxy; mount --bind $1 /usr/local/bin/nftproxy; exec $2 verify --man=no $3`, "sh", program, analyze, unit).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v: %s", err, out)
	}
}

// asService does to a process what the unit has systemd do, as far as a shell can: a directive stands for lines of it. A line before all
// others puts the program, with its files, where the unit wants them. What has no line is in notHere.
var asService = map[string]string{
	"ProtectSystem=strict": `for m in / /etc /usr/local/bin; do mount -o remount,bind,ro $m; done
mount --bind /run/nftproxy /run/nftproxy; mount -o remount,bind,ro /run; mount --make-private /run/nftproxy`,
	"ProtectHome=yes":           `for m in /root /home; do mount -t tmpfs -o ro,mode=0 none $m; done`,
	"PrivateTmp=yes":            `mount -t tmpfs none /tmp; mount -t tmpfs none /var/tmp`,
	"PrivateDevices=yes":        `mount -t tmpfs none /mnt; for d in null zero full random urandom; do touch /mnt/$d; mount --bind /dev/$d /mnt/$d; done; mount --move /mnt /dev`,
	"ProtectKernelTunables=yes": `for m in /proc/sys /sys; do mount --bind $m $m; mount -o remount,bind,ro $m; done`,
	"RuntimeDirectory=nftproxy": `test -d /run/nftproxy`,
	"OOMScoreAdjust=-999":       `echo -999 2>/dev/null >/proc/self/oom_score_adj || :`,
	"LimitNOFILE=65536":         `ulimit -n 65536 2>/dev/null || :`,
	"UMask=0077":                `umask 0077`,
	"PrivateIPC=yes":            `unshare --ipc true`,
	"PrivateMounts=yes":         `mount --make-rprivate /`,
}

// notHere are directives of which systemd makes filters of system calls, or which say nothing of the process. Of the former the test looks
// at what the process asks for.
var notHere = []string{"Restart=always", "RestartSec=1s", "SystemCallArchitectures=native", "SystemCallErrorNumber=EPERM", "AmbientCapabilities=",
	"NoNewPrivileges=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes", "ProtectControlGroups=yes", "ProtectClock=yes", "ProtectHostname=yes",
	"ProtectProc=invisible", "RemoveIPC=yes", "KeyringMode=private", "LockPersonality=yes", "MemoryDenyWriteExecute=yes", "RestrictNamespaces=yes",
	"RestrictRealtime=yes", "RestrictSUIDSGID=yes"}

// service is the section of the unit of that name.
type service struct {
	lines []string            // directives in the unit's order
	all   map[string][]string // their values
}

func readService(t *testing.T) (s service) {
	t.Helper()
	text, err := os.ReadFile(unit)
	must(t, err)
	_, section, _ := strings.Cut(string(text), "\n[Service]\n")
	section, _, _ = strings.Cut(section, "\n[")
	s.all = map[string][]string{}
	for line := range strings.Lines(section) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && key[0] != '#' {
			s.lines = append(s.lines, key+"="+value)
			s.all[key] = append(s.all[key], value)
		}
	}
	return s
}

// script is what a shell has to do before the program runs. Its arguments are the program and the directory of its files.
func (s *service) script(t *testing.T) string {
	t.Helper()
	script := `set -e
mount --make-rprivate /
for m in /usr/local/bin /run; do mount -t tmpfs none $m; done
touch /usr/local/bin/nftproxy; mount --bind $1 /usr/local/bin/nftproxy; mkdir /run/nftproxy
mkdir /run/etc; cp $2/* /run/etc; mount -t tmpfs none /etc; mkdir -m 0700 /etc/nftproxy; cp /run/etc/* /etc/nftproxy
`
	var last []string
	for _, line := range s.lines {
		do, ok := asService[line]
		key, _, _ := strings.Cut(line, "=")
		switch {
		case line == "ProtectSystem=strict": // after all that is mounted
			last = append(last, do)
		case ok:
			script += do + "\n"
		case !slices.Contains(notHere, line) && !slices.Contains([]string{"ExecStart", "ExecStartPre", "CapabilityBoundingSet", "RestrictAddressFamilies", "SystemCallFilter"}, key):
			t.Errorf("the test does not know %s", line)
		}
	}
	return script + strings.Join(last, "\n") + "\n"
}

// denied returns the system calls that the unit forbids, of those that systemd knows.
func (s *service) denied(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command(netnstest.Tool(t, "systemd-analyze"), "syscall-filter", "--no-pager").Output()
	must(t, err)
	sets, of := map[string][]string{}, ""
	for line := range strings.Lines(string(out)) {
		name := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "@"):
			of = name
		case name != "" && name[0] != '#':
			sets[of] = append(sets[of], name)
		}
	}
	var each func(name string, do func(string))
	each = func(name string, do func(string)) {
		if name[0] != '@' {
			do(name)
		}
		for _, n := range sets[name] {
			each(n, do)
		}
	}
	denied := map[string]bool{}
	each("@known", func(n string) { denied[n] = true })
	for _, list := range append([]string{"@default"}, s.all["SystemCallFilter"]...) {
		names, deny := strings.CutPrefix(list, "~")
		for name := range strings.FieldsSeq(names) {
			each(name, func(n string) { denied[n] = deny })
		}
	}
	maps.DeleteFunc(denied, func(_ string, is bool) bool { return !is })
	if len(denied) < 100 || denied["read"] || !denied["mount"] {
		t.Fatalf("%d system calls are forbidden: the list is not understood", len(denied))
	}
	return slices.Sorted(maps.Keys(denied))
}

// TestService: the unit's command works with what the unit leaves it: its capabilities, its view of the file system, its system calls, the
// others failing. systemd itself does not run here.
func TestService(t *testing.T) {
	if netns.InUserNamespace() {
		t.Skip("an ordinary user's mounts are not root's")
	}
	for _, tool := range []string{"unshare", "setpriv", "strace", "nsenter", "systemd-analyze"} {
		netnstest.Tool(t, tool)
	}
	s, n, dir := readService(t), newNode(t), t.TempDir()
	kubeconfig, err := os.ReadFile(serveAPI(t, n.NS, "testdata/distributions/objects", ""))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "proxy.conf"), kubeconfig, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "config.conf"), []byte(configHead+"hostnameOverride: node-1\nclientConnection: {kubeconfig: /etc/nftproxy/proxy.conf}\nclusterCIDR: 10.244.0.0/16\n"), 0o600))
	program, err := os.Executable()
	must(t, err)
	script := s.script(t)
	pre := s.all["ExecStartPre"][0]
	if pre[:2] != "-+" {
		t.Errorf("%s has to write below /proc/sys, and may fail", pre)
	}
	shell := func(line string) proxy.Config {
		c := n.command("--mount", "sh", "-c", script+line, "sh", program, dir)
		c.Program = "unshare"
		return c
	}
	bounding := "-all"
	for c := range strings.FieldsSeq(s.all["CapabilityBoundingSet"][0]) {
		bounding += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	var inject []string
	for _, name := range s.denied(t) {
		inject = append(inject, "?"+name)
	}
	calls := strings.Join(inject, ",")
	p, err := proxy.Start(shell(fmt.Sprintf("exec setpriv --bounding-set=%s --inh-caps=-all --no-new-privs strace -D -f -qq -o /run/nftproxy/trace -e trace=socket,mmap,mprotect,%s -e inject=%s:error=EPERM %s",
		bounding, calls, calls, s.all["ExecStart"][0])))
	must(t, err)
	t.Cleanup(p.Kill)
	must(t, p.WaitSynced(n.ctx))
	in := func(args ...string) string {
		c := n.command(append([]string{"--mount", "--target", fmt.Sprint(p.Pid()), "/usr/local/bin/nftproxy"}, args...)...)
		c.Program = "nsenter"
		out, runErr := proxy.Run(n.ctx, c)
		if runErr != nil {
			t.Errorf("nftproxy %s: %v\n%s\n%s", args, runErr, out, p.Log())
		}
		return out
	}
	if out := in("diff"); !strings.Contains(out, "equal: ") {
		t.Errorf("diff: %s", out)
	}
	trace, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/run/nftproxy/trace", p.Pid()))
	must(t, err)
	must(t, p.Stop())
	s.wantTrace(t, string(trace))
	for _, bad := range []string{"Landlock off", "permission denied", "Could not"} {
		if strings.Contains(p.Log(), bad) && !strings.Contains(p.Log(), "built with cgo") { // as for the race detector
			t.Errorf("the log has %q:\n%s", bad, p.Log())
		}
	}
}

// wantTrace looks at what the process asked for.
func (s *service) wantTrace(t *testing.T, trace string) {
	t.Helper()
	families := strings.Fields(s.all["RestrictAddressFamilies"][0])
	sockets := regexp.MustCompile(`socket\((AF_\w+)`).FindAllStringSubmatch(trace, -1)
	if len(sockets) < 3 {
		t.Errorf("%d sockets: the trace is not understood:\n%s", len(sockets), trace)
	}
	for _, m := range sockets {
		if !slices.Contains(families, m[1]) {
			t.Errorf("it makes a socket of %s, which the unit forbids", m[1])
		}
	}
	if strings.Contains(trace, "PROT_WRITE|PROT_EXEC") {
		t.Error("it has memory that is written and run (MemoryDenyWriteExecute)")
	}
	// Go raises its limit of open files, which the unit has set high, and goes on.
	for _, m := range regexp.MustCompile(`(?m)^\d+ +(\w+)\(.*\(INJECTED\)$`).FindAllStringSubmatch(trace, -1) {
		if m[1] != "prlimit64" && m[1] != "setrlimit" {
			t.Errorf("the unit forbids %s, which it tried", m[0])
		}
	}
}
