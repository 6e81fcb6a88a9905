// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write golden files instead of comparing with them")

const dir = "../../deploy/chart"

func render(t *testing.T, values string) string {
	t.Helper()
	var v map[string]any
	if err := yaml.Unmarshal([]byte(values), &v); err != nil {
		t.Fatal(err)
	}
	text, err := Render(dir, "kube-system", v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// find decodes the document of a kind, which must have no unknown fields.
func find[T any](t *testing.T, text, kind string) *T {
	t.Helper()
	for doc := range strings.SplitSeq(text, "\n---\n") {
		if !strings.Contains(doc, "\nkind: "+kind+"\n") {
			continue
		}
		object := new(T)
		if err := yaml.UnmarshalStrict([]byte(doc), object); err != nil {
			t.Fatalf("%s: %v\n%s", kind, err, doc)
		}
		return object
	}
	t.Fatalf("there is no %s in\n%s", kind, text)
	return nil
}

func daemonSet(t *testing.T, values string) *appsv1.DaemonSet {
	t.Helper()
	return find[appsv1.DaemonSet](t, render(t, values), "DaemonSet")
}

func TestPlainManifests(t *testing.T) {
	want, err := Plain(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../deploy/nftproxy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("deploy/nftproxy.yaml is not what deploy/chart renders: run 'make manifests'")
	}
}

func TestDaemonSet(t *testing.T) {
	ds := daemonSet(t, "")
	pod, c := ds.Spec.Template.Spec, ds.Spec.Template.Spec.Containers[0]
	security := c.SecurityContext
	for what, ok := range map[string]bool{
		"namespace kube-system":   ds.Namespace == "kube-system",
		"rolling update":          ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.String() == "10%",
		"host network":            pod.HostNetwork,
		"system-node-critical":    pod.PriorityClassName == "system-node-critical",
		"tolerates everything":    slices.Equal(pod.Tolerations, []corev1.Toleration{{Operator: corev1.TolerationOpExists}}),
		"service account":         pod.ServiceAccountName == "nftproxy",
		"one container, not more": len(pod.Containers) == 1 && len(pod.InitContainers) == 0,
		"no volume but the ConfigMap, the socket's and the network's sysctls": len(pod.Volumes) == 3 && pod.Volumes[0].ConfigMap.Name == "nftproxy" && c.VolumeMounts[0].ReadOnly &&
			pod.Volumes[1].EmptyDir != nil && c.VolumeMounts[1].MountPath == "/run/nftproxy" && pod.Volumes[2].HostPath.Path == "/proc/sys/net" && len(c.VolumeMounts) == 3,
		"read-only root file system":  *security.ReadOnlyRootFilesystem,
		"no privilege escalation":     !*security.AllowPrivilegeEscalation,
		"only NET_ADMIN":              slices.Equal(security.Capabilities.Add, []corev1.Capability{"NET_ADMIN"}) && slices.Equal(security.Capabilities.Drop, []corev1.Capability{"ALL"}),
		"not privileged":              security.Privileged == nil,
		"seccomp RuntimeDefault":      security.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault,
		"the address for probes":      slices.Contains(c.Args, "--probe-bind-address=127.0.0.1:10246"),
		"liveness, on loopback":       probes(c.LivenessProbe, "/livez", 10246),
		"readiness, on loopback":      probes(c.ReadinessProbe, "/readyz", 10246),
		"requests":                    !c.Resources.Requests.Cpu().IsZero() && !c.Resources.Requests.Memory().IsZero(),
		"no limit of memory":          c.Resources.Limits.Memory().IsZero(),
		"the node's name is known":    slices.Contains(c.Args, "--hostname-override=$(NODE_NAME)") && c.Env[0].Name == "NODE_NAME",
		"the API server's is not set": len(c.Env) == 1,
	} {
		if !ok {
			t.Errorf("the DaemonSet lacks: %s", what)
		}
	}
}

// TestSurge: two pods fit on a node, and the new one's readiness is its own.
func TestSurge(t *testing.T) {
	ds := daemonSet(t, "{updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}}")
	c := ds.Spec.Template.Spec.Containers[0]
	rolling := ds.Spec.UpdateStrategy.RollingUpdate
	for what, ok := range map[string]bool{
		"a surge":                     rolling.MaxSurge.String() == "1" && rolling.MaxUnavailable.String() == "0",
		"readiness, in the container": c.ReadinessProbe.HTTPGet == nil && slices.Equal(c.ReadinessProbe.Exec.Command, []string{"/nftproxy", "ready"}),
		"liveness, on loopback":       probes(c.LivenessProbe, "/livez", 10246),
		"no ports, which would be the host's and keep a second pod away": len(c.Ports) == 0,
	} {
		if !ok {
			t.Errorf("the DaemonSet lacks: %s", what)
		}
	}
}

// probes says whether a probe asks for a page at the loopback address: the pod is in the node's network, and so
// is the kubelet.
func probes(p *corev1.Probe, path string, port int) bool {
	return p != nil && p.HTTPGet != nil && p.HTTPGet.Host == "127.0.0.1" && p.HTTPGet.Path == path && p.HTTPGet.Port == intstr.FromInt(port)
}

// TestClusterRoleIsLeast: nftproxy reads what it serves from, writes events, and may do nothing else.
func TestClusterRoleIsLeast(t *testing.T) {
	may := map[string][]string{
		"/services": {"list", "watch"}, "/nodes": {"list", "watch"}, "discovery.k8s.io/endpointslices": {"list", "watch"},
		"networking.k8s.io/servicecidrs": {"list", "watch"}, "events.k8s.io/events": {"create", "patch"},
	}
	for _, rule := range find[rbacv1.ClusterRole](t, render(t, ""), "ClusterRole").Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				if of := group + "/" + resource; !slices.Equal(rule.Verbs, may[of]) {
					t.Errorf("nftproxy may %s %s, want %s", rule.Verbs, of, may[of])
				}
				delete(may, group+"/"+resource)
			}
		}
		if len(rule.NonResourceURLs) > 0 {
			t.Errorf("nftproxy may ask for %s", rule.NonResourceURLs)
		}
	}
	if len(may) > 0 {
		t.Errorf("nftproxy lacks %v", may)
	}
}

func TestValues(t *testing.T) {
	pod := func(values string) corev1.PodSpec { return daemonSet(t, values).Spec.Template.Spec }
	hasArg := func(p corev1.PodSpec, arg string) bool { return slices.Contains(p.Containers[0].Args, arg) }

	p := pod("{image: {repository: registry.example/nftproxy, tag: v1, pullPolicy: Always}, clusterCIDR: '10.1.0.0/16,fd00:1::/48', extraArgs: [--scheduler=random], logLevel: 2}")
	if c := p.Containers[0]; c.Image != "registry.example/nftproxy:v1" || c.ImagePullPolicy != corev1.PullAlways {
		t.Errorf("image %s, %s", c.Image, c.ImagePullPolicy)
	}
	for _, arg := range []string{"--config=/etc/nftproxy/config.conf", "--scheduler=random", "--v=2"} {
		if !hasArg(p, arg) {
			t.Errorf("%s is not among %q", arg, p.Containers[0].Args)
		}
	}

	env := pod("{apiServer: {host: 10.0.0.1, port: 443}}").Containers[0].Env
	if len(env) != 3 || env[1] != (corev1.EnvVar{Name: "KUBERNETES_SERVICE_HOST", Value: "10.0.0.1"}) || env[2] != (corev1.EnvVar{Name: "KUBERNETES_SERVICE_PORT", Value: "443"}) {
		t.Errorf("apiServer gave the environment %v", env)
	}

	p = pod("{probePort: 12345}")
	if c := p.Containers[0]; !hasArg(p, "--probe-bind-address=127.0.0.1:12345") || !probes(c.LivenessProbe, "/livez", 12345) || !probes(c.ReadinessProbe, "/readyz", 12345) {
		t.Errorf("probePort gave the arguments %q and the probes %v, %v", c.Args, c.LivenessProbe, c.ReadinessProbe)
	}

	if hasArg(pod(""), "--own-tables=auto") || !hasArg(pod("{ownTables: never}"), "--own-tables=never") {
		t.Error("ownTables is not what nftproxy is told")
	}

	spreading := func(values string) (out []string) {
		for _, arg := range pod(values).Containers[0].Args {
			for _, prefix := range []string{"--failover", "--scheduler", "--maglev"} {
				if strings.HasPrefix(arg, prefix) {
					out = append(out, arg)
				}
			}
		}
		return out
	}
	for values, want := range map[string]string{
		"": "", "{kubeProxyConfigMap: kube-proxy, failover: {enabled: true}}": "--failover", "{failover: {threshold: 5, share: 100}}": "--failover-threshold=5 --failover-share=100",
		"{scheduler: maglev, maglev: {tableSize: 65521, seed: 4294967295}}":  "--scheduler=maglev --maglev-table-size=65521 --maglev-seed=4294967295",
		"{failover: {enabled: true}, extraArgs: ['--failover-threshold=2']}": "--failover --failover-threshold=2",
	} {
		if got := strings.Join(spreading(values), " "); got != want {
			t.Errorf("%q gave the arguments %q, want %q", values, got, want)
		}
	}

	p = pod("{kubeProxyConfigMap: kube-proxy}")
	if !hasArg(p, "--config=/var/lib/kube-proxy/config.conf") || strings.Contains(render(t, "{kubeProxyConfigMap: kube-proxy}"), "kind: ConfigMap") {
		t.Errorf("kubeProxyConfigMap gave the arguments %q", p.Containers[0].Args)
	}
	if len(p.Volumes) != 3 || p.Volumes[0].ConfigMap.Name != "kube-proxy" || p.Containers[0].VolumeMounts[0].MountPath != "/var/lib/kube-proxy" {
		t.Errorf("kubeProxyConfigMap gave %v, mounted at %v", p.Volumes, p.Containers[0].VolumeMounts)
	}

	p = pod("{conntrackSysctls: true, kubeProxyConfigMap: kube-proxy}")
	if len(p.InitContainers) != 1 || !*p.InitContainers[0].SecurityContext.Privileged || !slices.Contains(p.InitContainers[0].Args, "--init-only") || len(p.InitContainers[0].VolumeMounts) != 1 {
		t.Errorf("conntrackSysctls gave the init containers %v", p.InitContainers)
	}
	if p.Containers[0].SecurityContext.Privileged != nil || hasArg(p, "--init-only") {
		t.Error("conntrackSysctls changed nftproxy's own container")
	}

	mounted := func(p corev1.PodSpec) bool {
		return slices.ContainsFunc(p.Volumes, func(v corev1.Volume) bool { return v.HostPath != nil && v.HostPath.Path == "/proc/sys/net" }) &&
			slices.ContainsFunc(p.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool {
				return m.MountPath == "/host/proc/sys/net" && !m.ReadOnly
			}) && slices.Contains(p.Containers[0].Args, "--sysctl-root=/host")
	}
	if mounted(p) {
		t.Error("conntrackSysctls true mounts /proc/sys/net, too")
	}
	for values, want := range map[string]bool{"": true, "{kubeProxyConfigMap: kube-proxy}": true, "{conntrackSysctls: mount}": true, "{conntrackSysctls: false}": false} {
		p = pod(values)
		if mounted(p) != want || len(p.InitContainers) > 0 || p.Containers[0].SecurityContext.Privileged != nil {
			t.Errorf("with %q conntrack sysctls can be set: %v, want %v, by nothing privileged", values, mounted(p), want)
		}
	}

	p = pod("{resources: {limits: {cpu: 1}}, tolerations: [{key: a, operator: Exists}], nodeSelector: {pool: b}, podAnnotations: {a: b}, imagePullSecrets: [{name: s}], affinity: {nodeAffinity: {}}}")
	if p.Containers[0].Resources.Limits.Cpu().Value() != 1 || p.Tolerations[0].Key != "a" || p.NodeSelector["pool"] != "b" || p.ImagePullSecrets[0].Name != "s" || p.Affinity.NodeAffinity == nil {
		t.Errorf("the pod is %v", p)
	}
}

// TestConfigMap: the configuration is one that kube-proxy would take.
func TestConfigMap(t *testing.T) {
	config := func(values string) *kubeproxy.KubeProxyConfiguration {
		t.Helper()
		c := &kubeproxy.KubeProxyConfiguration{}
		text := find[corev1.ConfigMap](t, render(t, values), "ConfigMap").Data["config.conf"]
		if err := yaml.UnmarshalStrict([]byte(text), c); err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		return c
	}
	if c := config(""); c.Kind != "KubeProxyConfiguration" || c.APIVersion != kubeproxy.SchemeGroupVersion.String() ||
		c.ClusterCIDR != "10.244.0.0/16" || c.MetricsBindAddress != "127.0.0.1:10249" || c.Mode != "nftables" {
		t.Errorf("the default configuration is %+v", c)
	}
	c := config("{clusterCIDR: '10.1.0.0/16,fd00:1::/48', metrics: {bindAddress: '[::]:9999'}, config: {nodePortAddresses: [primary], nftables: {masqueradeAll: true}}}")
	if c.ClusterCIDR != "10.1.0.0/16,fd00:1::/48" || c.MetricsBindAddress != "[::]:9999" || !slices.Equal(c.NodePortAddresses, []string{"primary"}) || !c.NFTables.MasqueradeAll {
		t.Errorf("the configuration is %+v", c)
	}
	if c := config("{clusterCIDR: ''}"); c.ClusterCIDR != "" {
		t.Errorf("clusterCIDR is %q, want none", c.ClusterCIDR)
	}
}

// TestRenderings compares variants of the chart with files, which e2e/controlplane gives to a real API server.
func TestRenderings(t *testing.T) {
	for name, values := range map[string]string{
		"kube-proxy-configmap": "{kubeProxyConfigMap: kube-proxy}",
		"sysctls":              "{conntrackSysctls: true, apiServer: {host: 10.0.0.1}, logLevel: 2, extraArgs: [--scheduler=random]}",
		"service-monitor":      "{serviceMonitor: {enabled: true, labels: {release: prometheus}}, metrics: {bindAddress: '0.0.0.0:10249'}}",
		"everything": "{clusterCIDR: '10.1.0.0/16,fd00:1::/48', config: {nodePortAddresses: [primary]}, podAnnotations: {a: b}, imagePullSecrets: [{name: s}]," +
			" resources: {limits: {cpu: 1}}, tolerations: [{key: a, operator: Exists}], updateStrategy: {type: OnDelete, rollingUpdate: null}}",
	} {
		file, got := "testdata/"+name+".yaml", render(t, values)
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if want, err := os.ReadFile(file); err != nil || string(want) != got {
			t.Errorf("%s is not what the chart renders (%v); if that is meant, run with -update", file, err)
		}
	}
}

func TestServiceMonitor(t *testing.T) {
	text := render(t, "{serviceMonitor: {enabled: true, interval: 15s, labels: {release: prometheus}}, metrics: {bindAddress: '0.0.0.0:9999'}}")
	if svc := find[corev1.Service](t, text, "Service"); svc.Spec.ClusterIP != corev1.ClusterIPNone || svc.Spec.Ports[0].Port != 9999 {
		t.Errorf("the Service is %v", svc.Spec)
	}
	monitor := *find[map[string]any](t, text, "ServiceMonitor")
	endpoint := monitor["spec"].(map[string]any)["endpoints"].([]any)[0].(map[string]any)
	labels := monitor["metadata"].(map[string]any)["labels"].(map[string]any)
	if endpoint["interval"] != "15s" || endpoint["port"] != "metrics" || labels["release"] != "prometheus" {
		t.Errorf("the ServiceMonitor is %v", monitor)
	}
	if strings.Contains(render(t, ""), "ServiceMonitor") {
		t.Error("there is a ServiceMonitor that nobody asked for")
	}
}

// TestMonitoring: the optional objects, the job's name, and that the rules and the dashboard are the files.
func TestMonitoring(t *testing.T) {
	const values = "{podMonitor: {enabled: true}, prometheusRule: {enabled: true, labels: {release: p}}, dashboard: {enabled: true, namespace: grafana}," +
		" metrics: {bindAddress: '[::]:9999', jobName: kube-proxy}}"
	text := render(t, values)
	monitor, _ := yaml.Marshal(*find[map[string]any](t, text, "PodMonitor"))
	for _, want := range []string{"replacement: kube-proxy", "replacement: ${1}:9999", "replacement: '[${1}]:9999'", "regex: kubernetes_build_info", "targetLabel: node"} {
		if !strings.Contains(string(monitor), want) {
			t.Errorf("the PodMonitor lacks %q:\n%s", want, monitor)
		}
	}
	if n := strings.Count(string(monitor), " relabelings:"); n != 1 {
		t.Errorf("the PodMonitor has relabelings %d times", n)
	}
	var alerts any
	readYAML(t, "files/alerts.yaml", &alerts)
	rule := *find[map[string]any](t, text, "PrometheusRule")
	if !reflect.DeepEqual(rule["spec"], alerts) || rule["metadata"].(map[string]any)["labels"].(map[string]any)["release"] != "p" {
		t.Error("the PrometheusRule is not files/alerts.yaml")
	}
	var dashboard, shown any
	readYAML(t, "files/dashboard.json", &dashboard)
	var board *corev1.ConfigMap
	for doc := range strings.SplitSeq(text, "\n---\n") {
		if strings.Contains(doc, "name: nftproxy-dashboard") {
			board = find[corev1.ConfigMap](t, doc, "ConfigMap")
		}
	}
	if board == nil || board.Namespace != "grafana" || board.Labels["grafana_dashboard"] != "1" {
		t.Fatalf("the dashboard's ConfigMap is %v", board)
	}
	if err := yaml.Unmarshal([]byte(board.Data["nftproxy.json"]), &shown); err != nil || !reflect.DeepEqual(shown, dashboard) {
		t.Errorf("the dashboard is not files/dashboard.json (%v)", err)
	}
	if strings.Contains(render(t, strings.Replace(values, "jobName: kube-proxy", "keepBuildInfo: true", 1)), "kubernetes_build_info\n      action") {
		t.Error("keepBuildInfo drops it")
	}
}

// TestImage: a digest, a tag, or the chart's appVersion; the program's labels tell the version.
func TestImage(t *testing.T) {
	var chart struct{ AppVersion string }
	readYAML(t, "Chart.yaml", &chart)
	digest := "sha256:" + strings.Repeat("a", 64)
	for values, want := range map[string]string{"": "nftproxy:" + chart.AppVersion, "{image: {tag: v9}}": "nftproxy:v9", "{image: {digest: '" + digest + "'}}": "nftproxy@" + digest} {
		if got := daemonSet(t, values).Spec.Template.Spec.Containers[0].Image; got != want {
			t.Errorf("%s: image %s, want %s", values, got, want)
		}
	}
	ds := daemonSet(t, "")
	if ds.Labels["app.kubernetes.io/version"] != chart.AppVersion || ds.Labels["helm.sh/chart"] == "" || ds.Labels["app.kubernetes.io/managed-by"] != "Helm" {
		t.Errorf("the labels are %v", ds.Labels)
	}
	if len(ds.Spec.Selector.MatchLabels) != 1 { // it cannot change in an upgrade
		t.Errorf("the selector is %v", ds.Spec.Selector)
	}
}

// TestNotes: what would hurt later is said at once.
func TestNotes(t *testing.T) {
	for values, want := range map[string][]string{
		"":                              {"apiServer.host is empty"},
		"{apiServer: {host: 10.0.0.1}}": nil,
		"{kubeProxyConfigMap: kube-proxy, image: {tag: latest}}":                       {"the tag latest"},
		"{clusterCIDR: '', apiServer: {host: 10.0.0.1}}":                               {"clusterCIDR is empty"},
		"{clusterCIDR: '', image: {tag: latest}}":                                      {"apiServer.host is empty", "the tag latest", "clusterCIDR is empty"},
		"{clusterCIDR: '', config: {detectLocalMode: NodeCIDR}, apiServer: {host: a}}": nil,
	} {
		var v map[string]any
		if err := yaml.Unmarshal([]byte(values), &v); err != nil {
			t.Fatal(err)
		}
		notes, err := Notes(dir, "kube-system", v)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(notes, "WARNING"); n != len(want) {
			t.Errorf("%s: %d warnings, want %d:\n%s", values, n, len(want), notes)
		}
		if strings.Contains(notes, " --reuse-values") { // the old chart's image would stay
			t.Errorf("%s: the notes tell of --reuse-values", values)
		}
		for _, w := range want {
			if !strings.Contains(notes, w) {
				t.Errorf("%s: the notes lack %q:\n%s", values, w, notes)
			}
		}
	}
}

// TestHelmTest: the pod of `helm test` compares with the options that matter, and only with those that diff knows.
func TestHelmTest(t *testing.T) {
	text, err := Tests(dir, "kube-system", map[string]any{"extraArgs": []any{"--scheduler=random", "--service-metrics", "--sandbox=never"}})
	if err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := yaml.UnmarshalStrict([]byte(text), &pod); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	want := []string{"diff", "--config=/etc/nftproxy/config.conf", "--hostname-override=$(NODE_NAME)", "--scheduler=random", "--service-metrics"}
	if c := pod.Spec.Containers[0]; !slices.Equal(c.Args, want) || c.Env[0].Name != "NODE_NAME" || pod.Annotations["helm.sh/hook"] != "test" {
		t.Errorf("the test's pod is %+v", pod)
	}
}

// TestBadValues: what the schema or the chart refuses, and that the message names it.
func TestBadValues(t *testing.T) {
	for values, want := range map[string]string{
		"{clusterCidr: 10.0.0.0/8}":                                            "clusterCidr",
		"{clusterCIDR: 10.0.0.0}":                                              "clusterCIDR",
		"{clusterCIDR: 10.256.0.0/16}":                                         "clusterCIDR",
		"{clusterCIDR: 10.0.0.0/33}":                                           "clusterCIDR",
		"{clusterCIDR: '10.0.0.0/8,fd00::/129'}":                               "clusterCIDR",
		"{clusterCIDR: '10.0.0.0/8,'}":                                         "clusterCIDR",
		"{image: {digest: 'sha256:abc'}}":                                      "digest",
		"{image: {tag: v1, digest: 'sha256:" + strings.Repeat("a", 64) + "'}}": "leave one empty",
		"{clusterCIDR: [10.0.0.0/8, 10.0.0.0]}":                                `clusterCIDR: "10.0.0.0" is no range`,
		"{podMonitor: {enabled: true}}":                                        "set it to 0.0.0.0:10249",
		"{metrics: {bindAddress: '0.0.0.0:10249'}, serviceMonitor: {enabled: true}, podMonitor: {enabled: true}}": "twice",
		"{image: {tag: 20240101}}":                                              "tag", // --set-string makes it text
		"{image: {pullPolicy: Sometimes}}":                                      "pullPolicy",
		"{apiServer: {host: a, port: 70000}}":                                   "port",
		"{apiServer: {host: a, port: '6443'}}":                                  "port",
		"{apiServer: {host: 'https://10.0.0.1'}}":                               "host",
		"{apiServer: {host: '10.0.0.1:6443'}}":                                  "host",
		"{extraArgs: [scheduler=random]}":                                       "extraArgs",
		"{extraArgs: --v=2}":                                                    "extraArgs",
		"{probePort: 0}":                                                        "probePort",
		"{probePort: '10246'}":                                                  "probePort",
		"{metrics: {bindAddress: '10249'}}":                                     "bindAddress",
		"{metrics: {bindAddress: '999.9.9.9:99999'}}":                           "bindAddress",
		"{metrics: {bindAddress: '10.0.0.256:10249'}}":                          "bindAddress",
		"{metrics: {bindAddress: '10.0.0.1:65536'}}":                            "bindAddress",
		"{metrics: {bindAddress: '10.0.0.1:0'}}":                                "bindAddress",
		"{metrics: {bindAddress: '[fd00]:10249'}}":                              "bindAddress",
		"{serviceMonitor: {interval: fast}}":                                    "interval",
		"{serviceMonitor: {enabled: 'yes'}}":                                    "enabled",
		"{kubeProxyConfigMap: Kube_Proxy}":                                      "kubeProxyConfigMap",
		"{updateStrategy: {type: Recreate}}":                                    "updateStrategy",
		"{updateStrategy: {rollingUpdate: {maxSurge: 1}}}":                      "and the other 0",
		"{updateStrategy: {rollingUpdate: {maxSurge: 101%}}}":                   "maxSurge",
		"{updateStrategy: {rollingUpdate: {maxSurge: -1}}}":                     "maxSurge",
		"{updateStrategy: {rollingUpdate: {maxUnavailable: 0}}}":                "and the other 0",
		"{updateStrategy: {rollingUpdate: {maxUnavailable: 0%, maxSurge: 0%}}}": "and the other 0",
		"{updateStrategy: {rollingUpdate: {maxUnavailable: 101%}}}":             "maxUnavailable",
		"{ownTables: maybe}":                                                    "ownTables",
		"{failover: true}":                                                      "failover",
		"{failover: {on: true}}":                                                "failover",
		"{failover: {threshold: 0}}":                                            "threshold",
		"{failover: {share: 101}}":                                              "share",
		"{scheduler: fastest}":                                                  "scheduler",
		"{maglev: {tableSize: 70000}}":                                          "tableSize",
		"{maglev: {seed: -1}}":                                                  "seed",
		"{logLevel: 11}":                                                        "logLevel",
		"{config: {clusterCIDR: 10.0.0.0/8}}":                                   "config.clusterCIDR",
		"{config: {mode: iptables}}":                                            "config.mode",
		"{config: {nodePortAdresses: [primary]}}":                               "nodePortAdresses",
		"{config: nftables}":                                                    "config",
		"{resources: {request: {}}}":                                            "resources",
		"{resources: {requests: {memory: 64 MB}}}":                              "memory",
		"{serviceMonitor: {enabled: true}}":                                     "set it to 0.0.0.0:10249",
	} {
		err := refusal(t, values)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want an error about %q, got %v", values, want, err)
		}
		if words := []string{"clusterCIDR:", "apiServer: {host: '", "bindAddress"}; err != nil && strings.Contains(err.Error(), "0-5]|") &&
			slices.ContainsFunc(words, func(w string) bool { return strings.Contains(values, w) }) {
			t.Errorf("%s: the error has a regular expression: %v", values, err)
		}
	}
}

// TestGoodValues: what the schema must not refuse.
func TestGoodValues(t *testing.T) {
	for _, values := range []string{
		"{clusterCIDR: '10.0.0.0/8,172.31.255.0/24,fd00:10:244::/56,::/0'}",
		"{image: {tag: '20240101'}}", "{image: {tag: ''}}",
		"{clusterCIDR: [10.0.0.0/8, 'fd00:10:244::/56']}", "{clusterCIDR: []}",
		"{apiServer: {host: k8s-1.example.org}}", "{apiServer: {host: 10.0.0.1}}", "{apiServer: {host: 'fd00::1'}}",
		"{metrics: {bindAddress: '255.249.199.99:65535'}}", "{metrics: {bindAddress: '[::]:1'}}", "{metrics: {bindAddress: '[fd00:1:2:3:4:5:6:7]:10249'}}",
		"{updateStrategy: {rollingUpdate: {maxUnavailable: 2}}}", "{updateStrategy: {rollingUpdate: {maxUnavailable: 100%}}}", "{updateStrategy: {type: OnDelete}}",
		"{updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}}", "{updateStrategy: {rollingUpdate: {maxSurge: 10%, maxUnavailable: 0%}}}",
		"{updateStrategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}}",
		"{resources: {requests: {cpu: 0.5, memory: 1.5Gi}, limits: {cpu: 250m, memory: 1000000}}}",
	} {
		if err := refusal(t, values); err != nil {
			t.Errorf("%s: %v", values, err)
		}
	}
}

// refusal is what rendering with values says.
func refusal(t *testing.T, values string) error {
	t.Helper()
	var v map[string]any
	if err := yaml.Unmarshal([]byte(values), &v); err != nil {
		t.Fatal(err)
	}
	_, err := Render(dir, "kube-system", v)
	return err
}

// schema is what these tests look at of values.schema.json.
type schema struct {
	Description   string            `json:"description"`
	Properties    map[string]schema `json:"properties"`
	PropertyNames struct {
		Enum []string `json:"enum"`
	} `json:"propertyNames"`
}

func readSchema(t *testing.T) (s schema) {
	t.Helper()
	readYAML(t, "values.schema.json", &s)
	return s
}

// readYAML reads a file of the chart.
func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	data, err := os.ReadFile(dir + "/" + file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

// unset are the values that values.yaml leaves out.
var unset = []string{"global", "resources.limits"}

// TestEveryValueIsDocumented: each key of values.yaml is in the schema with a
// description, and each of the schema's in values.yaml, at every depth.
func TestEveryValueIsDocumented(t *testing.T) {
	var values map[string]any
	readYAML(t, "values.yaml", &values)
	compareKeys(t, "", readSchema(t), values)
}

func compareKeys(t *testing.T, path string, s schema, values map[string]any) {
	t.Helper()
	for key, value := range values {
		of, ok := s.Properties[key]
		if !ok {
			t.Errorf("values.schema.json lacks %s%s", path, key)
		}
		if nested, ok := value.(map[string]any); ok && len(of.Properties) > 0 {
			compareKeys(t, path+key+".", of, nested)
		}
	}
	for key, of := range s.Properties {
		if _, ok := values[key]; !ok && !slices.Contains(unset, path+key) {
			t.Errorf("values.yaml lacks %s%s", path, key)
		}
		if of.Description == "" {
			t.Errorf("values.schema.json does not describe %s%s", path, key)
		}
	}
}

// TestConfigFields: config takes the fields of kube-proxy's configuration, so that a slip of the pen shows.
func TestConfigFields(t *testing.T) {
	want := []string{"apiVersion", "kind"}
	for i, of := 0, reflect.TypeFor[kubeproxy.KubeProxyConfiguration](); i < of.NumField(); i++ {
		if name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ","); name != "" {
			want = append(want, name)
		}
	}
	slices.Sort(want)
	if got := readSchema(t).Properties["config"].PropertyNames.Enum; !slices.Equal(got, want) {
		t.Errorf("values.schema.json lets config have\n%q, want\n%q", got, want)
	}
}
