// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// shamEnv makes the test binary a process that only has a command line.
const shamEnv = "NFTPROXY_E2E_SHAM"

// nobody is a user who is neither root nor the one that runs the tests.
const nobody = 65534

// strangerNode is a node on which another user lives, too.
type strangerNode struct {
	*node
	dir    string // of uid 0, which all may read
	marker string // what a credential plugin makes
}

func newStrangerNode(t *testing.T) *strangerNode {
	t.Helper()
	if os.Getuid() != 0 || netns.InUserNamespace() {
		t.Skip("only root can become another user")
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "missing"))
	n := &strangerNode{node: newNode(t), dir: t.TempDir()}
	for _, dir := range []string{n.dir, filepath.Dir(n.program)} {
		must(t, os.Chmod(filepath.Dir(dir), 0o755))
		must(t, os.Chmod(dir, 0o755))
	}
	n.marker = filepath.Join(t.TempDir(), "the plugin ran")
	return n
}

// kubeconfig writes one with more of the user.
func (n *strangerNode) kubeconfig(name, user string) string {
	n.t.Helper()
	path := filepath.Join(n.dir, name)
	must(n.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(n.t, os.WriteFile(path, fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: c,
 clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}],
 contexts: [{name: c, context: {cluster: c, user: u}}],
 users: [{name: u, user: {%s}}]}`, user), 0o644))
	return path
}

// plugin is a user of a kubeconfig who runs a program.
func (n *strangerNode) plugin() string {
	return fmt.Sprintf(`exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: touch, args: ["%s"]}`, n.marker)
}

// sham starts a process that is named nftproxy, as a user.
func (n *strangerNode) sham(program string, uid uint32, args ...string) {
	n.t.Helper()
	cmd := exec.Command(program, append([]string{"run"}, args...)...)
	cmd.Env = append(os.Environ(), shamEnv+"=1")
	cmd.Dir = n.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	alive, err := cmd.StdinPipe()
	must(n.t, err)
	out, err := cmd.StdoutPipe()
	must(n.t, err)
	must(n.t, n.Do(cmd.Start))
	n.t.Cleanup(func() {
		_ = alive.Close()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil { // it has its name and its user
		n.t.Fatal(err)
	}
}

// actSham says that it is there, and waits for its end.
func actSham() {
	fmt.Print(".")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// inheritors are the commands that take over options.
func inheritors() []string {
	return []string{"diff", "explain default/web", "dump", "dump --kernel --service default/web", "top", "trace --for 1ns", "check"}
}

// expect carries out commands: each says this, and no plugin runs.
func (n *strangerNode) expect(want string, commands ...string) {
	n.t.Helper()
	for _, command := range commands {
		out, _ := n.run(strings.Fields(command)...)
		if !strings.Contains(out, want) {
			n.t.Errorf("%s does not say %q:\n%s", command, want, out)
		}
		if _, err := os.Stat(n.marker); err == nil {
			n.t.Fatalf("%s ran the credential plugin:\n%s", command, out)
		}
	}
}

// TestStranger: a process of another user gets nothing from root.
func TestStranger(t *testing.T) {
	n := newStrangerNode(t)
	n.sham(n.program, nobody, "--kubeconfig", n.kubeconfig("evil.conf", n.plugin()))
	n.expect("is named nftproxy and is left out: it is of uid 65534", inheritors()...)
	n.expect("removed 0 of the tables", "cleanup") // which it does not hold up either
}

// TestStrangerBeside: the options of root's nftproxy are found beside another user's.
func TestStrangerBeside(t *testing.T) {
	n := newStrangerNode(t)
	n.sham(n.program, nobody, "--kubeconfig", n.kubeconfig("evil.conf", n.plugin()))
	must(t, os.CopyFS(filepath.Join(n.dir, "services"), os.DirFS("testdata/services")))
	p := n.start()
	must(t, p.WaitSynced(n.ctx))
	n.expect("equal: the kernel holds just what", "diff")
}

// TestOtherExecutable: root's process that is another program is not believed.
func TestOtherExecutable(t *testing.T) {
	n := newStrangerNode(t)
	program := filepath.Join(n.dir, "nftproxy")
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(program, self, 0o755))
	n.sham(program, 0, "--kubeconfig", n.kubeconfig("evil.conf", n.plugin()))
	n.expect("its options are not taken over: its executable is another file than this program's", inheritors()...)
}

// TestInherit: of root's own nftproxy no plugin is run, and no file counts that others can change.
func TestInherit(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		args       func(n *strangerNode) []string
	}{
		{"a plugin", "it names a credential plugin", func(n *strangerNode) []string {
			return []string{"--kubeconfig", n.kubeconfig("root.conf", n.plugin())}
		}},
		{"a plugin of a relative kubeconfig", "it names a credential plugin", func(n *strangerNode) []string {
			n.kubeconfig("root.conf", n.plugin())
			return []string{"--kubeconfig", "root.conf"}
		}},
		{"a plugin of old", "it names a credential plugin", func(n *strangerNode) []string {
			return []string{"--kubeconfig", n.kubeconfig("root.conf", `auth-provider: {name: oidc}`)}
		}},
		{"another user's kubeconfig", "evil.conf belongs to uid 65534", func(n *strangerNode) []string {
			path := n.kubeconfig("evil.conf", n.plugin())
			must(n.t, os.Chown(path, nobody, nobody))
			return []string{"--kubeconfig", path}
		}},
		{"a kubeconfig in a directory of all", "open can be written by others than its owner (its mode is 0777)", func(n *strangerNode) []string {
			path := n.kubeconfig("open/root.conf", n.plugin())
			must(n.t, os.Chmod(filepath.Dir(path), 0o777))
			return []string{"--kubeconfig", path}
		}},
		{"another user's token", "token belongs to uid 65534", func(n *strangerNode) []string {
			token := filepath.Join(n.dir, "token")
			must(n.t, os.WriteFile(token, []byte("x"), 0o644))
			must(n.t, os.Chown(token, nobody, nobody))
			return []string{"--kubeconfig", n.kubeconfig("root.conf", "tokenFile: token")}
		}},
		{"another user's configuration file", "config.conf belongs to uid 65534", func(n *strangerNode) []string {
			path := filepath.Join(n.dir, "config.conf")
			must(n.t, os.WriteFile(path, fmt.Appendf(nil, "%sclientConnection: {kubeconfig: %q}\n", configHead, n.kubeconfig("root.conf", n.plugin())), 0o644))
			must(n.t, os.Chown(path, nobody, nobody))
			return []string{"--config", path}
		}},
		{"a configuration file's plugin", "it names a credential plugin", func(n *strangerNode) []string {
			n.kubeconfig("root.conf", n.plugin())
			path := filepath.Join(n.dir, "config.conf")
			must(n.t, os.WriteFile(path, []byte(configHead+"clientConnection: {kubeconfig: root.conf}\n"), 0o644))
			return []string{"--config", "config.conf"}
		}},
		{"another user's manifests", "services belongs to uid 65534", func(n *strangerNode) []string {
			path := filepath.Join(n.dir, "services")
			must(n.t, os.Mkdir(path, 0o755))
			must(n.t, os.Chown(path, nobody, nobody))
			return []string{"--manifests", path}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newStrangerNode(t)
			n.sham(n.program, 0, tt.args(n)...)
			n.expect(tt.want, inheritors()[0], inheritors()[1], "check")
		})
	}
}

// TestOwnMounts: the options of a service to which systemd gives mounts of its own are taken over, as long as its files are those
// that are here.
func TestOwnMounts(t *testing.T) {
	unshare := netnstest.Tool(t, "unshare")
	n := newStrangerNode(t)
	n.program = filepath.Join(n.dir, "nftproxy") // which was /proc/self/exe: to a shell, that is a shell
	must(t, os.WriteFile(n.program, read(t, "/proc/self/exe"), 0o755))
	for _, name := range []string{"services", "hidden"} {
		must(t, os.CopyFS(filepath.Join(n.dir, name), os.DirFS("testdata/services")))
	}
	for _, tt := range []struct{ dir, want string }{{"services", "equal: the kernel holds just what"}, {"hidden", "hidden in its mount namespace: it is another file there"}} {
		run := n.command("-m", "sh", "-c", `mount -t tmpfs tmpfs "$0" && exec "$@"`, filepath.Join(n.dir, "hidden"),
			n.program, "run", "--manifests", filepath.Join(n.dir, tt.dir), "--metrics-bind-address", "", "--socket", "")
		run.Program = unshare
		p, err := proxy.Start(run)
		must(t, err)
		t.Cleanup(p.Kill)
		must(t, p.WaitSynced(n.ctx))
		n.expect(tt.want, "diff")
		must(t, p.Stop())
	}
}

// TestUnseen: to who may not see in which network namespace others are, they are not in his.
func TestUnseen(t *testing.T) {
	setpriv, unshare := netnstest.Tool(t, "setpriv"), netnstest.Tool(t, "unshare")
	n := newStrangerNode(t)
	kubeProxy := filepath.Join(filepath.Dir(n.program), "kube-proxy")
	must(t, os.Symlink("/proc/self/exe", kubeProxy))
	n.sham(n.program, 0)
	n.sham(kubeProxy, 0)
	program := n.copied()
	for command, want := range map[string][]string{
		"cleanup": {"is named nftproxy and is left out: its network namespace cannot be seen (permission denied)", "is named kube-proxy and is left out", "removed 0 of the tables"},
		"check --manifests " + n.dir: {"warning  kube-proxy ", "is named kube-proxy and is left out: its network namespace cannot be seen",
			"warning  confinement ", "is named nftproxy and is left out: its network namespace cannot be seen"},
	} {
		cmd := exec.CommandContext(n.ctx, setpriv, append([]string{"--reuid=65534", "--regid=65534", "--clear-groups", unshare, "-Urn", program}, strings.Fields(command)...)...)
		cmd.Env = append(os.Environ(), runEnv+"=1")
		said, err := cmd.CombinedOutput()
		for _, text := range want {
			if !strings.Contains(string(said), text) {
				t.Errorf("%s does not say %q: %v\n%s", command, text, err, said)
			}
		}
		if strings.Contains(string(said), "is running as process") {
			t.Errorf("%s takes a process of elsewhere for this node's:\n%s", command, said)
		}
	}
}

// copied returns this program where all may run it.
func (n *strangerNode) copied() string {
	n.t.Helper()
	path := filepath.Join(n.dir, "copy")
	must(n.t, os.WriteFile(path, read(n.t, "/proc/self/exe"), 0o755))
	must(n.t, os.Chmod(path, 0o755))
	return path
}
