// SPDX-License-Identifier: Apache-2.0

//go:build linux

package faults

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
)

const limitsRow = "limits"

// limited starts nftproxy by another program, which limits it.
func (w *world) limited(program string, args ...string) {
	w.t.Helper()
	self, err := os.Executable()
	w.must(err)
	config := w.process(append(append(args, self), w.args...)...)
	config.Program = netnstest.Tool(w.t, program)
	w.nftproxy, err = proxy.Start(config)
	w.must(err)
}

// TestFewFiles: with few descriptors Services are served; with fewer it ends with a line that says so, and leaves the rules of an
// earlier one as they are.
func TestFewFiles(t *testing.T) {
	const enough, few = 48, 24
	w := newWorld(t)
	w.put(0, w.pod(0), w.pod(2))
	w.put(1, w.pod(1))
	w.limited("prlimit", fmt.Sprintf("--nofile=%[1]d:%[1]d", enough))
	w.must(w.nftproxy.WaitSynced(w.patient()))
	l := w.load(0, 1)
	w.put(2, w.pod(2))
	begin := time.Now()
	w.programmed()
	right := time.Since(begin)
	counts := l.End()
	w.equal()
	Record(t, Result{Row: limitsRow, Fault: fmt.Sprintf("%d descriptors", enough), Counts: counts, Right: right})

	w.must(w.nftproxy.Stop())
	l = w.load(0, 1)
	w.limited("prlimit", fmt.Sprintf("--nofile=%[1]d:%[1]d", few))
	err := w.nftproxy.Wait(w.patient())
	line := lastLine(w.nftproxy.Log())
	if err == nil || !strings.Contains(line, "RLIMIT_NOFILE") {
		t.Errorf("it ended with %v:\n%s", err, w.nftproxy.Log())
	}
	w.must(l.GoOn(w.patient(), 50))
	Record(t, Result{Row: limitsRow, Fault: fmt.Sprintf("%d descriptors", few), Counts: l.End(), Note: "it ends, and the rules stay: " + line})
}

func lastLine(log string) string {
	log = strings.TrimSpace(log)
	return log[strings.LastIndexByte(log, '\n')+1:]
}

// TestNoRights: without CAP_NET_ADMIN the log says so, and the rules of an earlier one stay as they are.
func TestNoRights(t *testing.T) {
	w := newWorld(t)
	w.put(0, w.pod(0), w.pod(2))
	w.put(1, w.pod(1))
	w.start()
	w.must(w.nftproxy.Stop())
	l := w.load(0, 1)
	w.limited("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
	w.must(w.nftproxy.WaitLog(w.patient(), "CAP_NET_ADMIN is needed"))
	w.must(l.GoOn(w.patient(), 50))
	counts := l.End()
	w.nftproxy.Kill()
	w.equal()
	Record(t, Result{Row: limitsRow, Fault: "no CAP_NET_ADMIN", Counts: counts, Note: "each try says that it is needed; the rules stay"})
}

// TestUserNamespace: in a user namespace with a network namespace of its own all works.
func TestUserNamespace(t *testing.T) {
	w := newWorld(t)
	w.put(0, w.pod(0), w.pod(2))
	w.limited("unshare", "--user", "--map-root-user", "--net", "sh", "-c", `ip link set lo up; exec "$@"`, "sh")
	if err := w.nftproxy.WaitSynced(w.patient()); err != nil {
		t.Fatal(err)
	}
	Record(t, Result{Row: limitsRow, Fault: "a user namespace, with a network namespace of its own", Note: "all is programmed"})
}

// objects is an API server that has so many Services with so many endpoints each, and never changes.
type objects struct{ services, endpoints int }

func (o objects) each(resource string, emit func(string) error) error {
	switch resource {
	case "nodes":
		return emit(`{"apiVersion":"v1","kind":"Node","metadata":{"name":"node","resourceVersion":"1"},"status":{"addresses":[{"type":"InternalIP","address":"172.18.0.2"}]}}`)
	case "services":
		for i := range o.services {
			if err := emit(fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"team-%d","name":"web-%d","uid":"00000000-0000-0000-0000-%012d","resourceVersion":"%d"},`+
				`"spec":{"clusterIP":"10.%d.%d.%d","clusterIPs":["10.%[5]d.%[6]d.%[7]d"],"ports":[{"name":"http","protocol":"TCP","port":80,"targetPort":8080}]}}`,
				i%100, i, i, i+2, 96+i>>16, i>>8&255, i&255)); err != nil {
				return err
			}
		}
	case "endpointslices":
		for i := range o.services {
			var list []string
			for n := range o.endpoints {
				at := 16*i + n
				list = append(list, fmt.Sprintf(`{"addresses":["10.%d.%d.%d"],"conditions":{"ready":true,"serving":true,"terminating":false},"nodeName":"node-%d","targetRef":{"kind":"Pod","namespace":"team-%d","name":"web-%d-%d"}}`,
					128+at>>16, at>>8&255, at&255, at%1000, i%100, i, n))
			}
			if err := emit(fmt.Sprintf(`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"namespace":"team-%d","name":"web-%[2]d-x7k2p","resourceVersion":"%[3]d","labels":{"kubernetes.io/service-name":"web-%[2]d"}},`+
				`"addressType":"IPv4","ports":[{"name":"http","protocol":"TCP","port":8080}],"endpoints":[%[4]s]}`, i%100, i, i+2, strings.Join(list, ","))); err != nil {
				return err
			}
		}
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (o objects) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	kinds := map[string][2]string{"services": {"v1", "Service"}, "nodes": {"v1", "Node"}, "endpointslices": {"discovery.k8s.io/v1", "EndpointSlice"}, "servicecidrs": {"networking.k8s.io/v1", "ServiceCIDR"}}
	kind, ok := kinds[resource]
	w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriterSize(w, 64<<10)
	switch {
	case !ok:
		_, _ = w.Write([]byte("{}")) // an Event
	case r.URL.Query().Get("sendInitialEvents") == "true":
		_ = o.each(resource, func(text string) error {
			_, err := fmt.Fprintf(out, `{"type":"ADDED","object":%s}`+"\n", text)
			return err
		})
		fmt.Fprintf(out, `{"type":"BOOKMARK","object":{"apiVersion":%q,"kind":%q,"metadata":{"resourceVersion":"1000000","annotations":{"k8s.io/initial-events-end":"true"}}}}`+"\n", kind[0], kind[1])
		fallthrough
	case r.URL.Query().Get("watch") != "":
		_ = errors.Join(out.Flush(), http.NewResponseController(w).Flush())
		<-r.Context().Done()
	default: // is the API server still of this time?
		fmt.Fprintf(w, `{"apiVersion":%q,"kind":%q,"metadata":{"resourceVersion":"1000000"},"items":[]}`, kind[0], kind[1]+"List")
	}
}

// serveObjects answers as an API server outside of the cluster, and returns nftproxy's arguments for it.
func (w *world) serveObjects(o objects) []string {
	w.t.Helper()
	var l net.Listener
	w.must(w.Outside.Do(func() (err error) { l, err = net.Listen("tcp", "172.18.0.1:6443"); return err }))
	server := &http.Server{Handler: o, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	w.t.Cleanup(func() { _ = server.Close() })
	return []string{"run", "--master", "http://172.18.0.1:6443", "--hostname-override", "node", "--cluster-cidr", netns.ClusterCIDR4 + "," + netns.ClusterCIDR6}
}

// TestMemory: 10,000 Services of 10 endpoints in 128 MB, with what the kernel charges, and again after the ruleset was flushed.
func TestMemory(t *testing.T) {
	const limit = 128 << 20
	size := Amount(objects{300, 10}, objects{10_000, 10}, objects{10_000, 10})
	w := newWorld(t)
	w.args = w.serveObjects(size)
	group := w.memoryGroup(limit)
	w.limited("sh", "-c", `echo $$ >`+group+`/cgroup.procs && exec "$@"`, "sh")
	begin := time.Now()
	w.must(w.nftproxy.WaitSynced(w.patient()))
	loaded := time.Since(begin)
	time.Sleep(Amount(time.Second, 12*time.Second, 12*time.Second)) // it gives memory back
	want := w.state()
	w.must(w.nft("flush ruleset"))
	right, err := w.right(want, 2*netns.Patience())
	w.must(err)
	if w.nftproxy.Ended() {
		t.Fatal("nftproxy has ended")
	}
	Record(t, Result{Row: limitsRow, Fault: fmt.Sprintf("%d MB for %d Services of %d endpoints; the ruleset is flushed", limit>>20, size.services, size.endpoints), Right: right,
		Note: fmt.Sprintf("all programmed %.1f s after the start; at most %d MB were in use", loaded.Seconds(), mostMemory(t, group)>>20)})
}

// memoryGroup makes a cgroup with a limit, of whichever version there is.
func (w *world) memoryGroup(limit int) string {
	t := w.t
	t.Helper()
	for _, v := range []struct{ root, file string }{{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "memory.max"}} {
		group := filepath.Join(v.root, fmt.Sprintf("nftproxy-faults-%d", os.Getpid()))
		if os.Mkdir(group, 0o755) != nil { // as cgroups are
			continue
		}
		t.Cleanup(func() {
			w.nftproxy.Kill()
			for range 100 {
				if os.Remove(group) == nil {
					return
				}
				time.Sleep(50 * time.Millisecond) // the process is still ending
			}
		})
		if err := os.WriteFile(filepath.Join(group, v.file), []byte(strconv.Itoa(limit)), 0); err == nil {
			return group
		}
	}
	t.Skip("no cgroup can be made here whose memory is limited")
	return ""
}

func mostMemory(t *testing.T, group string) int {
	t.Helper()
	for _, file := range []string{"memory.max_usage_in_bytes", "memory.peak"} {
		if text, err := os.ReadFile(filepath.Join(group, file)); err == nil {
			n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
			return n
		}
	}
	return 0
}

// TestReadOnlySysctls: where /proc/sys cannot be written, one line says so, and all else works.
func TestReadOnlySysctls(t *testing.T) {
	w := newWorld(t)
	w.args = w.serveObjects(objects{10, 2})
	w.limited("unshare", "--mount", "sh", "-c", `mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"`, "sh")
	w.must(w.nftproxy.WaitSynced(w.patient()))
	lines := 0
	for line := range strings.Lines(w.nftproxy.Log()) {
		if strings.Contains(line, "read-only") {
			lines++
		}
	}
	if lines != 1 {
		t.Errorf("%d lines about read-only settings, want 1:\n%s", lines, w.nftproxy.Log())
	}
	Record(t, Result{Row: limitsRow, Fault: "/proc/sys is read-only", Note: "one line says that connection tracking is left as it is"})
}
