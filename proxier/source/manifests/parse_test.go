// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

func TestParseObjects(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, file, text, want string }{
		{"documents", "f.yaml", "---\n" + docs(service("a", "10.0.0.1"), "", "# only a comment\n", service("b", "None")) + "...\n",
			"Service default/a:2, Service default/b:14"},
		{"windows line ends", "f.yaml", strings.ReplaceAll(docs(service("a", "10.0.0.1"), service("b", "10.0.0.2")), "\n", "\r\n"),
			"Service default/a:1, Service default/b:10"},
		{"list", "f.yaml", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Node, metadata: {name: n}}\n" +
			"- apiVersion: v1\n  kind: Service\n  metadata: {name: a, namespace: ns}\n  spec: {clusterIP: 10.0.0.1}\nmetadata: {resourceVersion: ''}\n",
			"Node n:4, Service ns/a:5"},
		{"typed list", "f.json", `{"apiVersion":"v1","kind":"ServiceList","items":[
			{"metadata":{"name":"a"},"spec":{"clusterIP":"10.0.0.1"}},
			{"metadata":{"name":"b"},"spec":{"clusterIP":"10.0.0.2"}}]}`,
			"Service default/a:2, Service default/b:3"},
		{"typed list of slices", "f.yaml", "apiVersion: discovery.k8s.io/v1\nkind: EndpointSliceList\nitems:\n" +
			"- metadata: {name: a, labels: {kubernetes.io/service-name: s}}\n  addressType: IPv6\n", "EndpointSlice default/a:4"},
		{"typed list of nodes", "f.yaml", "apiVersion: v1\nkind: NodeList\nitems:\n- metadata: {name: a, namespace: x}\n", "Node a:4"},
		{"typed list of service CIDRs", "f.yaml", "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDRList\nitems:\n" +
			"- metadata: {name: a, namespace: x}\n  spec: {cidrs: ['fd00::/108', 10.0.0.1/16]}\n  status: {conditions: []}\n", "ServiceCIDR a:4"},
		{"empty list", "f.yaml", "apiVersion: v1\nkind: List\nitems:\n", ""},
		{"json documents", "f.json", `{"apiVersion":"v1","kind":"Node","metadata":{"name":"a","annotations":{"x":"\ud83d\ude00"}}}` + "\n\n" +
			`{"apiVersion":"v1","kind":"Node","metadata":{"name":"b"}}`, "Node a:1, Node b:3"},
		{"json in a yaml file", "f.yml", "{\n\t\"apiVersion\":\"v1\",\n\t\"kind\":\"Node\",\n\t\"metadata\":{\"name\":\"a\"}\n}\n", "Node a:1"},
		{"another proxy's service", "f.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {service.kubernetes.io/service-proxy-name: x}}\n", ""},
		{"a slice with another proxy's label", "f.yaml", "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n" +
			"metadata: {name: a, labels: {service.kubernetes.io/service-proxy-name: '', kubernetes.io/service-name: s}}\n", "EndpointSlice default/a:1"},
		{"headless slice", "f.yaml",
			"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, labels: {service.kubernetes.io/headless: ''}}\n", ""},
		{"being deleted", "f.yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: a, deletionTimestamp: 2026-01-01T00:00:00Z}\n", ""},
		{"external name", "f.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: ExternalName, externalName: example.org}\n",
			"Service default/a:1"},
		{"anchors", "f.yaml", "apiVersion: v1\nkind: List\nitems:\n- &a\n  apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n  spec: &s {clusterIP: None}\n" +
			"- <<: *a\n  metadata: {name: b}\n  spec:\n    <<: [*s]\n    type: ClusterIP\n",
			"Service default/a:4, Service default/b:9"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			objects, faults := parseManifest(test.file, []byte(test.text), "")
			if len(faults) > 0 {
				t.Fatalf("faults: %v", faults)
			}
			var got []string
			for _, o := range objects {
				got = append(got, o.key.String()+":"+json.Number(numeral(o.line)).String())
			}
			if got := strings.Join(got, ", "); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func numeral(n int) string {
	out, _ := json.Marshal(n)
	return string(out)
}

func TestParseFaults(t *testing.T) {
	t.Parallel()
	head := "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\nspec:\n  clusterIP: 10.0.0.1\n" // 6 lines
	sliceHead := "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: a\n"   // 4 lines
	labelled := sliceHead + "  labels: {kubernetes.io/service-name: s}\n"                         // 5 lines
	jsonHead := "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"Node\",\n"                           // 3 lines
	for _, test := range []struct {
		name, file, text string
		want             []string // how the messages start
	}{
		{"unknown field", "f.yaml", head + "  prots:\n  - port: 1\n", []string{`f.yaml:7: unknown field "spec.prots"`}},
		{"unknown field in a list", "f.yaml", head + "  ports:\n  - port: 1\n    name: x\n  - port: 2\n    name: y\n    prot: TCP\n",
			[]string{`f.yaml:12: unknown field "spec.ports[1].prot"`}},
		{"field name in another case", "f.yaml", head + "  Ports: []\n", []string{`f.yaml:7: unknown field "spec.Ports"`}},
		{"unknown field in the second document", "f.yaml", docs(head, head+"x: 1\n"), []string{`f.yaml:14: unknown field "x"`}},
		{"unknown field in a List", "f.yaml", "apiVersion: v1\nkind: List\nitems: []\nitem: []\n", []string{`f.yaml:4: unknown field "item" in a List`}},
		{"all faults of a file", "f.yaml", docs(head+"  x: 1\n  y: 2\n", "kind: Foo\napiVersion: v9\n"),
			[]string{`f.yaml:7: unknown field "spec.x"`, `f.yaml:8: unknown field "spec.y"`, `f.yaml:10: unknown kind Foo of v9: only Service`}},
		{"wrong type", "f.yaml", head + "  ports:\n  - port: 1\n  - name: x\n    port: http\n",
			[]string{"f.yaml:10: spec.ports.port: want int32, found string"}},
		{"number too large", "f.yaml", head + "  ports:\n  - port: 99999999999\n", []string{"f.yaml:8: spec.ports.port: want int32, found number 99999999999"}},
		{"list instead of mapping", "f.yaml", head + "  selector:\n  - a\n", []string{"f.yaml:8: spec.selector: want map[string]string, found array"}},
		{"wrong type in a map", "f.yaml", head + "  selector:\n    a: b\n    c: 1\n", []string{"f.yaml:9: spec.selector: want string, found number"}},
		{"wrong type in a type that decodes itself", "f.yaml", head + "  ports:\n  - targetPort: {a: b}\n", []string{"f.yaml:7: spec.ports.targetPort: want int32"}},
		{"bad time", "f.yaml", "apiVersion: v1\nkind: Node\nmetadata:\n  name: n\n  creationTimestamp: x\n", []string{`f.yaml:1: parsing time "x"`}},
		{"field twice", "f.yaml", head + "  type: ClusterIP\n  clusterIP: 10.0.0.2\n", []string{`f.yaml:8: field "clusterIP" is already set in line 6`}},
		{"bad indentation", "f.yaml", docs(head, head+"   type: ClusterIP\n"), []string{"f.yaml:14: mapping values are not allowed"}},
		{"tab", "f.yaml", head + "\ttype: ClusterIP\n", []string{"f.yaml:7: found a tab character"}},
		{"tab after empty lines", "f.yaml", head + "\n\n\ttype: ClusterIP\n  x: y\n", []string{"f.yaml:9: found a tab character"}},
		{"tab after a text of two lines", "f.yaml", head + "  type: Cluster\n    IP\n\tx: y\n  z: a\n", []string{"f.yaml:9: found a tab character"}},
		{"nothing but a tab", "f.yaml", head + "\n\t\n  type: ClusterIP\n", []string{"f.yaml:8: found a tab character"}},
		{"tab in a second line", "f.yaml", "kind: Node\n\tx: y\n  z: a\n", []string{"f.yaml:2: found a tab character"}},
		{"tab in a block of text", "f.yaml", head + "  type: |\n\n\tx\n  z: a\n", []string{"f.yaml:9: found a tab character"}},
		{"undefined tag", "f.yaml", head + "  type: !x!y z\n  x: y\n", []string{"f.yaml:7: found undefined tag handle"}},
		{"list item in the wrong place", "f.yaml", docs(head, head+"  ports:\n  - port: 1\n  name: x\n  - port: 2\n"),
			[]string{"f.yaml:17: did not find expected key"}},
		{"a list item in a mapping", "f.yaml", head + "- a\n- b\n", []string{"f.yaml:7: did not find expected key"}},
		{"a word after a value", "f.yaml", strings.Replace(head, "name: a", "name: {a: b} c", 1), []string{"f.yaml:4: did not find expected key"}},
		{"a bracket too many", "f.yaml", strings.Replace(head, "name: a\n", "labels: {a: b}}\n# comment\n\n", 1), []string{"f.yaml:4: did not find expected key"}},
		{"a word in a list", "f.yaml", head + "  ports:\n    - port: 1\n    port: 2\n", []string{"f.yaml:9: did not find expected '-' indicator"}},
		{"a list item in another column", "f.yaml", head + "  ports:\n    - port: 1\n   - port: 2\n", []string{"f.yaml:9: did not find expected key"}},
		{"lines that end with CR", "f.yaml", "a: b\r- c\r", []string{"f.yaml:1: did not find expected key"}},
		{"line separators", "f.yaml", "a: \"x\u2028y\u2028z\"\n- c\n", []string{"f.yaml:2: did not find expected key"}},
		{"no end of a text", "f.yaml", head + "  type: \"ClusterIP\n", []string{"f.yaml:7: found unexpected end of stream"}},
		{"a key without a colon", "f.yaml", docs(head, strings.Replace(head, "name: a", "name", 1)+"  ports\n"), []string{"f.yaml:14: could not find expected ':'"}},
		{"unclosed bracket", "f.yaml", head + "  clusterIPs: [10.0.0.1\n  type: ClusterIP\n", []string{"f.yaml:7: did not find expected ',' or ']'"}},
		{"unknown kind", "f.yaml", docs(head, "apiVersion: apps/v1\nkind: Deployment\n"),
			[]string{"f.yaml:9: unknown kind Deployment of apps/v1: only Service and Node of v1, EndpointSlice of discovery.k8s.io/v1, ServiceCIDR of networking.k8s.io/v1, and a List of them are read"}},
		{"old version", "f.yaml", "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\n", []string{"f.yaml:2: unknown kind EndpointSlice of discovery.k8s.io/v1beta1"}},
		{"list in a list", "f.yaml", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List\n", []string{"f.yaml:5: unknown kind List of v1 (a List inside"}},
		{"items is no list", "f.yaml", "apiVersion: v1\nkind: List\nitems: {}\n", []string{"f.yaml:3: items: want a list, found a mapping"}},
		{"no kind", "f.yaml", "apiVersion: v1\n", []string{"f.yaml:1: kind is missing"}},
		{"no apiVersion", "f.yaml", "\nkind: Service\n", []string{"f.yaml:2: apiVersion is missing"}},
		{"no object", "f.yaml", "- a\n", []string{"f.yaml:1: want a Kubernetes object, found a list"}},
		{"no name", "f.yaml", "apiVersion: v1\nkind: Node\nmetadata:\n  labels: {}\n", []string{"f.yaml:3: metadata.name: is missing"}},
		{"bad name", "f.yaml", strings.Replace(head, "name: a", "name: a/b", 1), []string{`f.yaml:4: metadata.name: "a/b" is not a valid name`}},
		{"no service label", "f.yaml", sliceHead + "  labels: {a: b}\naddressType: IPv4\n", []string{"f.yaml:5: the label kubernetes.io/service-name is missing"}},
		{"no labels", "f.yaml", sliceHead + "addressType: IPv4\n", []string{"f.yaml:3: the label kubernetes.io/service-name is missing"}},
		{"no address type", "f.yaml", labelled, []string{`f.yaml:1: addressType: "" is not one of ["IPv4" "IPv6" "FQDN"]`}},
		{"endpoint without address", "f.yaml", labelled + "addressType: IPv4\nendpoints:\n- conditions: {}\n", []string{"f.yaml:8: endpoints[0].addresses: want at least one"}},
		{"slice port", "f.yaml", labelled + "addressType: IPv4\nports:\n- port: 70000\n  protocol: tcp\n",
			[]string{`f.yaml:9: ports[0].protocol: "tcp" is not one of`, "f.yaml:8: ports[0].port: 70000 is not between 1 and 65535"}},
		{"twice in one file", "f.yaml", docs(head, head), []string{"f.yaml:8: Service default/a is already defined in line 1 of this file"}},
		{"no cluster IP", "f.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports: []\n", []string{"f.yaml:4: spec.clusterIP is missing"}},
		{"bad cluster IP", "f.yaml", strings.Replace(head, "10.0.0.1", "10.0.0", 1), []string{`f.yaml:6: spec.clusterIP: "10.0.0" is not an IP address`}},
		{"bad second cluster IP", "f.yaml", head + "  clusterIPs:\n  - 10.0.0.1\n  - x\n", []string{`f.yaml:9: spec.clusterIPs[1]: "x" is not an IP address`}},
		{"other cluster IP", "f.yaml", head + "  clusterIPs: [10.0.0.2]\n", []string{"f.yaml:7: spec.clusterIPs: the first one must be the same"}},
		{"cluster IPs of one family", "f.yaml", head + "  clusterIPs: [10.0.0.1, 10.0.0.2]\n", []string{"f.yaml:7: spec.clusterIPs: want at most one address of each family"}},
		{"other families", "f.yaml", head + "  ipFamilies: [IPv6]\n", []string{"f.yaml:7: spec.ipFamilies: must be [IPv4]"}},
		{"service ports", "f.yaml", head + "  ports:\n  - {port: 0, name: a}\n  - {port: 1, name: a}\n  - {port: 1}\n",
			[]string{"f.yaml:8: spec.ports[0].port: 0 is not between", `f.yaml:9: spec.ports[1].name: "a" is the name of spec.ports[0]`,
				"f.yaml:10: spec.ports[2].name: is missing", "f.yaml:10: spec.ports[2].port: TCP 1 is spec.ports[1] already"}},
		{"enumerations", "f.yaml", head + "  type: clusterip\n  sessionAffinity: x\n  internalTrafficPolicy: x\n  externalTrafficPolicy: x\n",
			[]string{"f.yaml:7: spec.type:", "f.yaml:8: spec.sessionAffinity:", "f.yaml:9: spec.internalTrafficPolicy:", "f.yaml:10: spec.externalTrafficPolicy:"}},
		{"affinity timeout", "f.yaml", head + "  sessionAffinity: ClientIP\n  sessionAffinityConfig:\n    clientIP:\n      timeoutSeconds: 0\n",
			[]string{"f.yaml:10: spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is not between"}},
		{"no service CIDRs", "f.yaml", serviceCIDR("a", ""), []string{"f.yaml:6: spec.cidrs: want one CIDR, or one of each family"}},
		{"service CIDRs of one family", "f.yaml", serviceCIDR("a", "10.0.0.0/8, 172.16.0.0/12"), []string{"f.yaml:6: spec.cidrs: want one CIDR, or"}},
		{"bad service CIDR", "f.yaml", serviceCIDR("a", "10.0.0.0/8, fd00::"), []string{`f.yaml:6: spec.cidrs[1]: "fd00::" is not a CIDR`}},
		{"alias of itself", "f.yaml", "apiVersion: v1\nkind: Node\nmetadata: &m\n  annotations: *m\n", []string{"f.yaml:3: the alias m stands for something that it is a part of"}},
		{"merge of itself", "f.yaml", "apiVersion: v1\nkind: Node\nmetadata: &m\n  <<: [*m, *m]\n", []string{"f.yaml:3: the alias m stands for something that it is a part of"}},
		{"json unknown field", "f.json", jsonHead + "  \"metadata\": {\n    \"name\": \"n\"\n  },\n  \"x\": 1\n}\n", []string{`f.json:7: unknown field "x"`}},
		{"json wrong type", "f.json", jsonHead + "  \"metadata\": {\n    \"name\": 1\n  }\n}\n", []string{"f.json:5: metadata.name: want string, found number"}},
		{"json syntax", "f.json", jsonHead + "  \"metadata\": {\n    \"name\" \"n\"\n  }\n}\n", []string{"f.json:5: invalid character '\"' after object key"}},
		{"json cut off", "f.json", jsonHead, []string{"f.json:3: unexpected end of file"}},
		{"empty", "f.json", "", []string{"f.json: is empty"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			objects, faults := parseManifest(test.file, []byte(test.text), "")
			if objects != nil {
				t.Errorf("a bad file gives objects")
			}
			matches := slices.EqualFunc(faults, test.want, func(f *FileError, want string) bool { return strings.HasPrefix(f.Error(), want) })
			if !matches {
				t.Errorf("got %v\nwant %v", faults, test.want)
			}
		})
	}
}

func parseOne[T any](t *testing.T, text string) T {
	t.Helper()
	objects, faults := parseManifest("f.yaml", []byte(text), "")
	if len(faults) > 0 || len(objects) != 1 {
		t.Fatalf("got %d objects, faults %v", len(objects), faults)
	}
	return objects[0].value.(T)
}

func TestServiceDefaults(t *testing.T) {
	t.Parallel()
	got := parseOne[*corev1.Service](t, `
apiVersion: v1
kind: Service
metadata:
  name: web
  creationTimestamp: 2026-01-02T03:04:05Z
  managedFields: [{manager: x}]
  annotations: {date: 2026-01-02, empty: , word: yes}
spec:
  type: LoadBalancer
  clusterIPs: [10.0.0.1, "fd00::1"]
  sessionAffinity: ClientIP
  publishNotReadyAddresses: true
  ports: [{port: 0x50, targetPort: http}]
status: {loadBalancer: {ingress: [{ip: 192.0.2.1}, {hostname: x}]}}
`)
	if got.CreationTimestamp.UTC().Format("2006-01-02T15:04:05") != "2026-01-02T03:04:05" || got.ManagedFields != nil || got.Namespace != "default" {
		t.Errorf("metadata: %+v", got.ObjectMeta)
	}
	if diff := cmp.Diff(map[string]string{"date": "2026-01-02", "empty": "", "word": "yes"}, got.Annotations); diff != "" {
		t.Errorf("annotations: %s", diff)
	}
	seconds, policy, vip := int32(10800), corev1.ServiceInternalTrafficPolicyCluster, corev1.LoadBalancerIPModeVIP
	spec := corev1.ServiceSpec{
		Type:                     corev1.ServiceTypeLoadBalancer,
		ClusterIP:                "10.0.0.1",
		ClusterIPs:               []string{"10.0.0.1", "fd00::1"},
		IPFamilies:               []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
		SessionAffinity:          corev1.ServiceAffinityClientIP,
		SessionAffinityConfig:    &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}},
		PublishNotReadyAddresses: true,
		Ports:                    []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: got.Spec.Ports[0].TargetPort}},
		InternalTrafficPolicy:    &policy,
		ExternalTrafficPolicy:    corev1.ServiceExternalTrafficPolicyCluster,
	}
	if diff := cmp.Diff(spec, got.Spec); diff != "" {
		t.Errorf("spec (-want +got): %s", diff)
	}
	if got.Spec.Ports[0].TargetPort.StrVal != "http" {
		t.Errorf("target port %v", got.Spec.Ports[0].TargetPort)
	}
	ingress := []corev1.LoadBalancerIngress{{IP: "192.0.2.1", IPMode: &vip}, {Hostname: "x"}}
	if diff := cmp.Diff(ingress, got.Status.LoadBalancer.Ingress); diff != "" {
		t.Errorf("ingress (-want +got): %s", diff)
	}

	headless := parseOne[*corev1.Service](t, service("a", "None"))
	if headless.Spec.Type != corev1.ServiceTypeClusterIP || headless.Spec.IPFamilies != nil || headless.Spec.ClusterIPs[0] != "None" ||
		headless.Spec.ExternalTrafficPolicy != "" || headless.Spec.SessionAffinity != corev1.ServiceAffinityNone {
		t.Errorf("headless: %+v", headless.Spec)
	}
}

func TestEndpointSliceDefaults(t *testing.T) {
	t.Parallel()
	got := parseOne[*discoveryv1.EndpointSlice](t, slice("a", "s", "10.1.0.1"))
	name, protocol, port := "", corev1.ProtocolTCP, int32(8080)
	if diff := cmp.Diff([]discoveryv1.EndpointPort{{Name: &name, Protocol: &protocol, Port: &port}}, got.Ports); diff != "" {
		t.Errorf("ports (-want +got): %s", diff)
	}
	if got.Endpoints[0].Conditions.Ready != nil || got.Endpoints[0].Conditions.Serving != nil {
		t.Errorf("conditions: %+v", got.Endpoints[0].Conditions)
	}
}
