// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sandbox

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// childEnv makes the test binary a process that confines itself and does what it is told.
const childEnv = "NFTPROXY_SANDBOX_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		actChild()
		return
	}
	remove, err := build()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := netns.Main(m.Run)
	remove()
	os.Exit(code)
}

// programEnv is this test as a program without cgo, which Enter needs, where other users can run it.
const programEnv = "NFTPROXY_SANDBOX_PROGRAM"

// build makes that program, unless there is one.
func build() (remove func(), err error) {
	if os.Getenv(programEnv) != "" {
		return func() {}, nil
	}
	dir, err := os.MkdirTemp("", "sandbox")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "sandbox.test")
	if err := prctl(unix.PR_GET_NO_NEW_PRIVS, 0); errors.Is(err, unix.ENOTSUP) {
		cmd := exec.Command("go", "test", "-c", "-o", path, ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build without cgo: %w: %s", err, out)
		}
	} else {
		self, err := os.ReadFile("/proc/self/exe")
		if err == nil {
			err = os.WriteFile(path, self, 0o755)
		}
		if err != nil {
			return nil, err
		}
	}
	return func() { _ = os.RemoveAll(dir) }, os.Setenv(programEnv, path)
}

// order is what a child does.
type order struct {
	Config     Config
	NoLandlock bool     // as in a kernel without it
	Do         []string // read FILE, write FILE, list DIRECTORY, exec PROGRAM, wait
}

// report is what came of it.
type report struct {
	Notes []string
	State State
	Done  []string // "" or the error
}

// actChild reads an order from the environment and writes a report. It waits for a line where it is told to.
func actChild() {
	var o order
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &o); err != nil {
		panic(err)
	}
	release := startThreads()
	defer release()
	if o.NoLandlock {
		refuseLandlock()
	}
	in := bufio.NewReader(os.Stdin)
	r := report{Notes: Enter(o.Config)}
	var err error
	if r.State, err = Of("/proc", "self"); err != nil {
		r.Notes = append(r.Notes, err.Error())
	}
	for _, what := range o.Do {
		text := ""
		if err := do(in, what); err != nil {
			text = err.Error()
		}
		r.Done = append(r.Done, text)
	}
	_ = json.NewEncoder(os.Stdout).Encode(r)
}

func do(in *bufio.Reader, what string) error {
	verb, path, _ := strings.Cut(what, " ")
	switch verb {
	case "read":
		_, err := os.ReadFile(path)
		return err
	case "list":
		_, err := os.ReadDir(path)
		return err
	case "write":
		file, value, _ := strings.Cut(path, "=")
		return os.WriteFile(file, []byte(value), 0o600)
	case "exec":
		return exec.Command(path).Run()
	case "wait":
		fmt.Println("ready")
		_, err := in.ReadString('\n')
		return err
	}
	return errors.New("unheard of")
}

// startThreads has a few threads that do nothing.
func startThreads() (release func()) {
	var started sync.WaitGroup
	stop := make(chan struct{})
	for range 10 {
		started.Add(1)
		go func() {
			runtime.LockOSThread()
			started.Done()
			<-stop
		}()
	}
	started.Wait()
	return func() { close(stop) }
}

// refuseLandlock answers its system calls as a kernel that does not have them.
func refuseLandlock() {
	const load, jump, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	filter := []unix.SockFilter{
		{Code: load, K: 0},
		{Code: jump, Jf: 1, K: unix.SYS_LANDLOCK_CREATE_RULESET},
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := prctl(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		panic(err)
	}
	if err := setFilter(&program); err != nil {
		panic(err)
	}
}

// child is a process that has been given an order.
type child struct {
	t   *testing.T
	cmd *exec.Cmd
	in  *os.File
	err *strings.Builder
	all *bufio.Reader
}

// start starts a child, through a command that runs the program after its arguments if there is one.
func start(t *testing.T, o order, through ...string) *child {
	t.Helper()
	text, err := json.Marshal(o)
	must(t, err)
	args := slices.Concat(through, []string{os.Getenv(programEnv)})
	c := &child{t: t, cmd: exec.Command(args[0], args[1:]...), err: &strings.Builder{}}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	c.cmd.Stderr = c.err
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: unix.CLONE_NEWNET}
	stdin, w, err := os.Pipe()
	must(t, err)
	c.cmd.Stdin, c.in = stdin, w
	out, err := c.cmd.StdoutPipe()
	must(t, err)
	c.all = bufio.NewReader(out)
	runtime.LockOSThread() // whose end would be the parent's for Pdeathsig
	t.Cleanup(runtime.UnlockOSThread)
	must(t, c.cmd.Start())
	must(t, stdin.Close())
	return c
}

// await waits until the child waits; then do is done, and it goes on.
func (c *child) await(do func()) {
	c.t.Helper()
	if line, err := c.all.ReadString('\n'); err != nil || line != "ready\n" {
		c.t.Fatalf("the child says %q, %v: %s", line, err, c.err)
	}
	do()
	_, err := c.in.WriteString("\n")
	must(c.t, err)
}

// end waits for its report.
func (c *child) end() (r report) {
	c.t.Helper()
	err := json.NewDecoder(c.all).Decode(&r)
	_ = c.in.Close()
	if err = errors.Join(err, c.cmd.Wait()); err != nil {
		c.t.Fatalf("%v: %s", err, c.err)
	}
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
