// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scale

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/app"
	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// runEnv makes the test binary act as nftproxy.
const runEnv = "NFTPROXY_SCALE_RUN"

// memoryEnv names the file to which it then writes how many kB it had at most.
const memoryEnv = "NFTPROXY_SCALE_MEMORY"

// BenchmarkExplain asks the nftproxy that runs about one Service of many, with the command that users run: how long it takes, from
// its start to its end, what memory it has at most, and what processor time that costs the daemon. It is for a machine that does
// nothing else.
func BenchmarkExplain(b *testing.B) {
	n := newNode(b)
	defer n.close()
	dir := b.TempDir()
	socket := filepath.Join(dir, "TABLE.sock")
	manifests := filepath.Join(dir, "manifests")
	name := writeManifests(b, manifests, large)
	env := []string{runEnv + "=1"}
	p, err := proxy.Start(proxy.Config{Args: []string{"run", "-v=1", "--manifests", manifests, "--hostname-override", "here", "--socket", socket,
		"--cluster-cidr", "10.0.0.0/8", "--metrics-bind-address", "", "--healthz-bind-address", ""}, Env: env, NS: n.ns})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Kill()
	if err := p.WaitLog(b.Context(), "Commands can ask"); err != nil {
		b.Fatal(err)
	}
	quiet(b, p.Pid())
	before, memory := processTime(b, p.Pid()), filepath.Join(dir, "memory")
	var took time.Duration
	var most int64
	for b.Loop() {
		cmd := exec.Command("/proc/self/exe", "explain", name, "--socket", socket)
		cmd.Env = append(append(os.Environ(), env...), memoryEnv+"="+memory)
		var out []byte
		began := time.Now()
		err := n.ns.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err })
		if took += time.Since(began); err != nil || !strings.Contains(string(out), "The kernel holds just that.") {
			b.Fatalf("%v: %s", err, out)
		}
		text, err := os.ReadFile(memory)
		kB, perr := strconv.ParseInt(string(text), 10, 64)
		if err != nil || perr != nil {
			b.Fatal(err, perr)
		}
		most = max(most, kB)
	}
	b.ReportMetric(float64(took.Microseconds())/1000/float64(b.N), "client-ms")
	b.ReportMetric(float64(most)/1024, "client-MB")
	b.ReportMetric(float64((processTime(b, p.Pid())-before).Microseconds())/1000/float64(b.N), "daemon-cpu-ms")
}

// writeManifests writes the objects of a cluster, and returns the name of one of its Services.
func writeManifests(b *testing.B, dir string, s size) string {
	b.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	services, list := s.objects()
	const each = 250 // Services in a file
	for i := 0; i < len(services); i += each {
		var items []any
		for j := i; j < min(i+each, len(services)); j++ {
			services[j].TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}
			list[j].TypeMeta = metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"}
			items = append(items, services[j], list[j])
		}
		text, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.json", i)), text, 0o600)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	one := services[len(services)/2]
	return one.Namespace + "/" + one.Name
}

// quiet waits until a process has done what it had to after its start.
func quiet(b *testing.B, pid int) {
	b.Helper()
	const pause, idle = 500 * time.Millisecond, 10 * time.Millisecond
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		before := processTime(b, pid)
		time.Sleep(pause)
		if processTime(b, pid)-before < idle {
			return
		}
	}
}

// processTime is the processor time of a process so far, of all its threads: to the nanosecond where the kernel tells that.
func processTime(b *testing.B, pid int) (total time.Duration) {
	b.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		b.Fatalf("no thread of process %d: %v", pid, err)
	}
	for _, file := range threads {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		total += time.Duration(ns)
	}
	return total
}

// acts says whether this process is to be nftproxy, and if so is that until its end.
func acts() (code int, yes bool) {
	if os.Getenv(runEnv) == "" {
		return 0, false
	}
	code = app.Main("bench")
	if file := os.Getenv(memoryEnv); file != "" { // what wait tells of a child's memory has its parent's before it begins
		status, _ := os.ReadFile("/proc/self/status")
		_, most, _ := strings.Cut(string(status), "VmHWM:")
		_ = os.WriteFile(file, []byte(strings.Fields(most + " 0")[0]), 0o600)
	}
	return code, true
}
