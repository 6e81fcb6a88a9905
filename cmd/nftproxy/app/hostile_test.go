// SPDX-License-Identifier: Apache-2.0

package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/nftables"
	"github.com/spf13/cobra"
	"github.com/vishvananda/netlink"
	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/kubeproxy"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// forged is what nobody but nftproxy may say.
const forged = "The kernel holds just that."

// evil is what an attacker writes wherever the API server, or the kernel, lets everything pass. marker is in it.
const (
	marker = "zz-evil"
	evil   = marker + "\x1b[2J\x1b[H\n" + forged + "\r\n" + forged + "\t\b\x07\x7f\u0085\u009b2J\u061c\u200b\u200e\u202e\u2066\u2028\ufeff\U000e0041"
)

// evilLong does not fit any line.
var evilLong = evil + strings.Repeat("x", 200_000)

// mostLine is what no line of a text is longer than.
const mostLine = 4096

// hostileRow is a command in one of its output formats. The objects, the API server, the kernel and who listens at
// kube-proxy's port are hostile.
type hostileRow struct {
	command string // words of the command, without arguments
	output  string // format; empty: it has but one
	args    string
	shows   bool // it shows what an attacker wrote
	traffic bool // it looks at connections, and ends by itself
	serves  bool // it runs until it is stopped
	beside  bool // it takes the options of an nftproxy that runs
	asks    bool // it asks an nftproxy that runs
	rival   bool // kube-proxy has rules
}

var hostileRows = []hostileRow{
	{command: "check", args: "--manifests DIR", shows: true},
	{command: "check", args: "--master http://API", shows: true},
	{command: "cleanup"},
	{command: "cleanup", args: "--kube-proxy"},
	{command: "compare", output: "text", args: "--manifests DIR", shows: true, rival: true},
	{command: "compare", output: "json", args: "--manifests DIR", shows: true, rival: true},
	{command: "completion bash"},
	{command: "completion fish"},
	{command: "completion powershell"},
	{command: "completion zsh"},
	{command: "describe", args: "service default/web", shows: true, asks: true},
	{command: "diff", output: "text", args: "--manifests DIR", shows: true},
	{command: "diff", output: "json", args: "--manifests DIR", shows: true},
	{command: "dump", output: "nft", args: "--kernel", shows: true},
	{command: "dump", output: "nft", args: "--manifests DIR", shows: true},
	{command: "dump", output: "nft", args: "--master http://API --service default/web"},
	{command: "dump", output: "json", args: "--kernel", shows: true},
	{command: "dump", output: "yaml", args: "--kernel", shows: true},
	{command: "dump", output: "nft", args: "--service default/nothing", shows: true, beside: true},
	{command: "explain", output: "text", args: "--manifests DIR default/web --rules", shows: true},
	{command: "explain", output: "json", args: "--manifests DIR default/web --rules", shows: true},
	{command: "explain", output: "text", args: "--master http://API default/web", shows: true},
	{command: "explain", output: "json", args: "--master http://API default/web", shows: true},
	{command: "explain", output: "text", args: "--kernel --rules 10.96.0.1:80", shows: true},
	{command: "explain", output: "json", args: "--kernel 10.96.0.1:80", shows: true},
	{command: "explain", output: "text", args: "--manifests DIR default/nothing --from default/nobody", shows: true},
	{command: "explain", output: "json", args: "default/web --rules", shows: true, asks: true},
	{command: "get", output: "wide", args: "services -A", shows: true, asks: true},
	{command: "get", output: "json", args: "services -A", shows: true, asks: true},
	{command: "get", output: "yaml", args: "services -A", shows: true, asks: true},
	{command: "get", output: "name", args: "services -A", asks: true},
	{command: "get", output: "wide", args: "endpoints -A", shows: true, asks: true},
	{command: "get", output: "wide", args: "conflicts -A", asks: true},
	{command: "get", output: "wide", args: "transactions", asks: true},
	{command: "get", output: "jsonpath={.items}", args: "services -A", shows: true, asks: true},
	{command: "get", output: "custom-columns=N:.notes", args: "services -A", shows: true, asks: true},
	{command: "get", output: "wide", args: "connections -A", asks: true},
	{command: "get", output: "wide", args: "affinity -A", asks: true},
	{command: "help"},
	{command: "history", output: "text", asks: true},
	{command: "history", output: "json", asks: true},
	{command: "ready"},
	{command: "relay", asks: true},
	{command: "run", output: "text", args: "--manifests DIR", shows: true, serves: true},
	{command: "run", output: "json", args: "--manifests DIR", shows: true, serves: true},
	{command: "run", output: "text", args: "--master http://API --kube-api-content-type application/json --v 2", shows: true, serves: true},
	{command: "run", output: "json", args: "--master http://API --kube-api-content-type application/json --v 2", shows: true, serves: true},
	{command: "top", output: "text", args: "--once --interval 1s", shows: true, traffic: true},
	{command: "top", output: "json", args: "--once --interval 1s", shows: true, traffic: true},
	{command: "trace", output: "text", args: "--for 1s --rules", shows: true, traffic: true},
	{command: "trace", output: "json", args: "--for 1s --rules", shows: true, traffic: true},
	{command: "version"},
	{command: "__complete", args: "explain --manifests DIR default/"},
}

// TestHostileText feeds text that would clear the screen and forge lines to every command and output format.
func TestHostileText(t *testing.T) {
	for _, row := range hostileRows {
		t.Run(strings.ReplaceAll(row.command+" "+row.output+" "+row.args, "/", "|"), func(t *testing.T) {
			n := newHostileNode(t)
			out := n.carryOut(row)
			if row.command == "describe" { // it says so, once
				out = strings.Replace(out, "\n"+forged+"\n", "\n", 1)
			}
			document := row.output == "json" || row.output == "yaml"
			n.mustBeSafe(out, document)
			if row.shows && !strings.Contains(out, marker) {
				t.Errorf("it does not show what an attacker wrote:\n%s", out)
			}
			n.mustParse(row, out)
			for _, note := range n.api.notes() {
				if n.mustBeSafe(note, false); len(note) > 1024 || strings.Contains(note, "\n") {
					t.Errorf("an Event's note has %d bytes: %q", len(note), note)
				}
			}
			if row.serves && strings.Contains(row.args, "API") && len(n.api.notes()) < 2 {
				t.Errorf("Events %q, want one of the invalid Service", n.api.notes())
			}
		})
	}
}

// TestHostileRows: a new command, or an output format, needs a row.
func TestHostileRows(t *testing.T) {
	root := rootCommand("v1.2.3", nil)
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	want := map[string]bool{"__complete ": true, "run text": true, "run json": true} // --logging-format
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, child := range c.Commands() {
			walk(child)
		}
		name := strings.TrimPrefix(c.CommandPath(), "nftproxy ")
		if !c.Runnable() || c.HasSubCommands() || name == "run" || name == "ui" { // ui prints but its address
			return
		}
		complete, ok := c.GetFlagCompletionFunc("output")
		if !ok {
			want[name+" "] = true
			return
		}
		formats, _ := complete(c, nil, "")
		for _, f := range formats {
			want[name+" "+f] = true
		}
	}
	walk(root)
	for _, row := range hostileRows {
		delete(want, row.command+" "+row.output)
	}
	if len(want) > 0 || len(root.Commands()) < 8 {
		t.Errorf("no row of TestHostileText has %v", want)
	}
}

// mustBeSafe fails if a terminal would do something else than show text, or a line is forged or has no bound.
func (n *hostileNode) mustBeSafe(out string, document bool) {
	n.t.Helper()
	if !utf8.ValidString(out) {
		n.t.Errorf("it is not UTF-8: %q", out)
	}
	for _, r := range out {
		if r != '\n' && r != '\t' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
			n.t.Errorf("it has %U in %q", r, around(out, string(r)))
			break
		}
	}
	for line := range strings.SplitSeq(out, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), forged) {
			n.t.Errorf("a line is forged: %q", around(out, "\n"+line))
		}
		if len(line) > mostLine && !document {
			n.t.Errorf("a line has %d bytes: %q ...", len(line), line[:200])
		}
	}
	if len(out) > 100_000 && strings.Contains(out, strings.Repeat("x", 10_000)) {
		n.t.Errorf("text is not cut: there are %d bytes", len(out))
	}
}

func around(out, what string) string {
	i := strings.Index(out, what)
	return out[max(0, i-100):min(len(out), i+100)]
}

// mustParse fails if a document is none, or does not say what the kernel has.
func (n *hostileNode) mustParse(row hostileRow, out string) {
	n.t.Helper()
	var document map[string]any
	switch {
	case (row.command == "run" || row.command == "trace") && row.output == "json":
		for line := range strings.SplitSeq(strings.TrimSpace(withoutMessages(out)), "\n") {
			if err := json.Unmarshal([]byte(line), &document); err != nil {
				n.t.Errorf("a record of the log is no JSON: %v: %q", err, line)
			}
		}
		return
	case row.output == "json":
		must(n.t, json.Unmarshal([]byte(withoutMessages(out)), &document))
	case row.output == "yaml":
		must(n.t, yaml.Unmarshal([]byte(withoutMessages(out)), &document))
	default:
		return
	}
	if row.command == "dump" && row.args == "--kernel" && !strings.Contains(fmt.Sprint(document), "foreign/"+evil) {
		n.t.Errorf("the document does not have the chain's name:\n%s", out)
	}
}

// withoutMessages leaves out the messages, which come before a document.
func withoutMessages(out string) string {
	for strings.HasPrefix(out, "nftproxy: ") {
		_, out, _ = strings.Cut(out, "\n")
	}
	return out
}

// hostileNode is a node whose tables somebody else wrote into.
type hostileNode struct {
	*node
	dir string // of manifests
	api *hostileAPI
}

func newHostileNode(t *testing.T) *hostileNode {
	t.Helper()
	n := &hostileNode{node: newNode(t), dir: t.TempDir(), api: &hostileAPI{}}
	n.writeManifests()
	must(t, n.Do(n.fillKernel))
	n.serve("127.0.0.1:8001", n.api)
	n.serve(kubeproxy.Status, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, evilLong) }))
	return n
}

func (n *hostileNode) serve(address string, h http.Handler) {
	n.t.Helper()
	var l net.Listener
	must(n.t, n.Do(func() (err error) { l, err = net.Listen("tcp", address); return err }))
	server := &http.Server{Handler: h}
	n.t.Cleanup(func() { _ = server.Close() })
	go func() { _ = server.Serve(l) }()
}

// carryOut carries out a command and returns what it wrote.
func (n *hostileNode) carryOut(row hostileRow) string {
	n.t.Helper()
	args := append(strings.Fields(row.command), strings.Fields(strings.NewReplacer("DIR", n.dir, "API", "127.0.0.1:8001").Replace(row.args))...)
	flag := "--output"
	if row.command == "run" {
		flag = "--logging-format"
		args = append(args, "--metrics-bind-address", "")
	}
	if row.output != "" {
		args = append(args, flag, row.output)
	}
	if slices.ContainsFunc(args, func(a string) bool { return a == "--manifests" || a == "--master" }) && row.command != "__complete" {
		args = append(args, "--hostname-override", "here")
	}
	if row.rival {
		netnstest.Tool(n.t, "nft")
		must(n.t, n.Do(func() error {
			nft := exec.Command("nft", "-f", "-")
			nft.Stdin = strings.NewReader(`table ip kube-proxy { map service-ips { type ipv4_addr . inet_proto . inet_service : verdict
				elements = { 10.96.9.9 . tcp . 80 comment "` + marker + "\x1b[2J\u202e" + `" : drop } }
				chain first { type nat hook prerouting priority dstnat; ip daddr . meta l4proto . th dport vmap @service-ips
				}
			}`)
			out, err := nft.CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			return err
		}))
	}
	if row.beside {
		dir := filepath.Join(n.dir, evil)
		must(n.t, os.Mkdir(dir, 0o700))
		other := n.start("--manifests", dir, "--metrics-bind-address", "")
		must(n.t, other.WaitSynced(n.ctx))
	}
	if row.asks {
		dir, err := os.MkdirTemp("", "socket") // a test's own directory has too long a name for a socket
		must(n.t, err)
		n.t.Cleanup(func() { _ = os.RemoveAll(dir) })
		socket := []string{"--socket", filepath.Join(dir, "s")}
		asked := n.start(append([]string{"--manifests", n.dir, "--metrics-bind-address", "", "-v=1"}, socket...)...)
		must(n.t, errors.Join(asked.WaitSynced(n.ctx), asked.WaitLog(n.ctx, "Commands can ask")))
		args = append(args, socket...)
	}
	p, err := proxy.Start(n.command(args...))
	must(n.t, err)
	defer p.Kill()
	switch {
	case row.serves:
		must(n.t, p.WaitSynced(n.ctx))
		if strings.Contains(row.args, "API") {
			must(n.t, n.api.waitEvents(n.ctx.Done()))
		}
		must(n.t, p.Stop())
	case row.traffic:
		for !p.Ended() && n.ctx.Err() == nil {
			must(n.t, n.Do(n.connect))
		}
	}
	if err := p.Wait(n.ctx); n.ctx.Err() != nil {
		n.t.Fatalf("it does not end: %v\n%s", err, p.Log())
	}
	return p.Log()
}

// connect connects to the Service that is in the kernel.
func (n *hostileNode) connect() error {
	conn, err := net.Dial("tcp", "10.96.0.1:80")
	if err != nil {
		return err
	}
	return conn.Close()
}

// fillKernel writes a Service and a chain with hostile names into our tables, and hostile tables beside them.
func (n *hostileNode) fillKernel() error {
	handle, err := n.Netlink()
	if err != nil {
		return err
	}
	if err = routeToLoopback(handle, "10.96.0.0/16"); err != nil {
		return err
	}
	config := rules.Config{}.WithDefaults()
	d := rules.NewDesired(config, rules.Node{})
	name := rules.ServicePortName{Namespace: marker, Name: "a\x1b[2J\n" + forged + "\u202e", Port: "p\r\u009b"}
	sp := rules.ServicePort{Name: name, Family: rules.IPv4, Protocol: rules.TCP, ClusterIP: netip.MustParseAddr("10.96.0.1"), Port: 80}
	endpoints := []rules.Endpoint{{Addr: netip.MustParseAddrPort("127.0.0.1:8001"), Ready: true}, {Addr: netip.MustParseAddrPort("127.0.0.1:10249"), Ready: true}}
	d.Update([]rules.Owned{{Owner: rules.Owner{ServicePortName: name, Family: rules.IPv4}, Objects: rules.Build(sp, endpoints, config, rules.Node{})}})
	state := d.State()
	state.Tables[rules.IPv4].Chains["foreign/"+evil] = rules.Chain{Name: "foreign/" + evil, Rules: []rules.Rule{{rules.Drop{}}}}
	k, err := kernel.Open()
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	if err = k.Apply(rules.Diff(rules.State{}, state)); err != nil {
		return err
	}
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Name: evil, Family: nftables.TableFamilyIPv4})
	c.AddChain(&nftables.Chain{Name: evil, Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRef(-100)})
	return c.Flush()
}

// writeManifests writes good objects with hostile texts, and a bad one in a file with a hostile name.
func (n *hostileNode) writeManifests() {
	n.t.Helper()
	list := append([]runtime.Object{hostileService(), hostileSlice()}, &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: "here", Labels: map[string]string{corev1.LabelTopologyZone: evil}}})
	for i, o := range list {
		text, err := json.Marshal(o)
		must(n.t, err)
		must(n.t, os.WriteFile(filepath.Join(n.dir, fmt.Sprintf("%d.json", i)), text, 0o600))
	}
	for i, bad := range []any{
		map[string]any{"apiVersion": "v1", "kind": evil},
		map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": evilLong}},
		map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "x"}, evil: evil, "spec": map[string]any{evil: evil}},
	} {
		text, err := json.Marshal(bad)
		must(n.t, err)
		must(n.t, os.WriteFile(filepath.Join(n.dir, fmt.Sprintf("%s\x1b[2J\n%d.json", marker, i)), text, 0o600))
	}
	must(n.t, os.WriteFile(filepath.Join(n.dir, marker+"\u202e.yaml"), []byte("a: \""+evil+"\n\x00"+forged), 0o600))
}

func hostileService() *corev1.Service {
	return &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "1", Annotations: map[string]string{"nftproxy.io/scheduler": evilLong}},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.7", ClusterIPs: []string{"10.96.0.7"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}, ExternalIPs: slices.Repeat([]string{evil}, 1000), LoadBalancerSourceRanges: []string{evil}},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{
			{Hostname: evilLong}, {IP: evil, IPMode: ptr.To(corev1.LoadBalancerIPMode(evil))}, {IP: evil, IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)}}}}}
}

func hostileSlice() *discoveryv1.EndpointSlice {
	endpoint := func(address, text string) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{Addresses: []string{address}, NodeName: ptr.To(text), Zone: ptr.To(text), TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: text},
			Hints: &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: text}}}}
	}
	here := endpoint("10.244.0.3", evil)
	here.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "a"}}}
	return &discoveryv1.EndpointSlice{TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: ptr.To(""), Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To[int32](8080)}},
		Endpoints: []discoveryv1.Endpoint{endpoint("10.244.0.1", evil), endpoint("10.244.0.2", evilLong), here}}
}

// hostileAPI is an API server: it lists objects with hostile texts, answers with hostile errors, and keeps Events.
type hostileAPI struct {
	mu     sync.Mutex
	events []eventsv1.Event
	came   chan struct{}
	failed bool
}

// ServeHTTP implements http.Handler.
func (a *hostileAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Warning", `299 - "`+marker+"\u202e\ufe0f"+strings.Repeat("x", 10_000)+`"`)
	what := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	switch {
	case r.URL.Path == "/version":
		_ = json.NewEncoder(w).Encode(map[string]string{"gitVersion": evil})
	case what == "events":
		a.keep(w, r)
	case r.URL.Query().Get("sendInitialEvents") == "true":
		a.fail(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid)
	case r.URL.Query().Has("watch"):
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	case what == "services" && a.first():
		a.fail(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
	case what == "services":
		a.list(w, "v1", "ServiceList", hostileService())
	case what == "endpointslices":
		a.list(w, "discovery.k8s.io/v1", "EndpointSliceList", hostileSlice())
	case what == "nodes":
		a.list(w, "v1", "NodeList", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "here", UID: "2", Labels: map[string]string{corev1.LabelTopologyZone: evil}},
			Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "172.18.0.2"}}}})
	case what == "servicecidrs":
		a.list(w, "networking.k8s.io/v1", "ServiceCIDRList")
	default:
		a.fail(w, http.StatusForbidden, metav1.StatusReasonForbidden)
	}
}

// first says whether it is called for the first time.
func (a *hostileAPI) first() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	was := a.failed
	a.failed = true
	return !was
}

func (a *hostileAPI) fail(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
		Message: evilLong, Reason: reason, Code: int32(code)})
}

func (a *hostileAPI) list(w http.ResponseWriter, version, kind string, items ...runtime.Object) {
	_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": version, "kind": kind, "metadata": map[string]string{"resourceVersion": "1"}, "items": append([]runtime.Object{}, items...)})
}

// keep keeps an Event that is created.
func (a *hostileAPI) keep(w http.ResponseWriter, r *http.Request) {
	text, _ := io.ReadAll(r.Body)
	var e eventsv1.Event
	if err := json.Unmarshal(text, &e); err != nil {
		a.fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
		return
	}
	a.mu.Lock()
	a.events = append(a.events, e)
	if a.came != nil {
		close(a.came)
		a.came = nil
	}
	a.mu.Unlock()
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(text)
}

func (a *hostileAPI) notes() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for _, e := range a.events {
		out = append(out, e.Note)
	}
	return out
}

// waitEvents waits until there is one about a Service.
func (a *hostileAPI) waitEvents(done <-chan struct{}) error {
	for {
		a.mu.Lock()
		found := slices.ContainsFunc(a.events, func(e eventsv1.Event) bool { return e.Regarding.Kind == "Service" })
		came := make(chan struct{})
		a.came = came
		a.mu.Unlock()
		if found {
			return nil
		}
		select {
		case <-came:
		case <-done:
			return fmt.Errorf("no Event about the Service came")
		}
	}
}

// routeToLoopback lets addresses that nobody has be connected to.
func routeToLoopback(handle *netlink.Handle, cidr string) error {
	lo, err := handle.LinkByName("lo")
	if err != nil {
		return err
	}
	dst, err := netlink.ParseIPNet(cidr)
	if err != nil {
		return err
	}
	return handle.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst, Scope: netlink.SCOPE_LINK})
}
