// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// smallFile is the size of the files below, and mostAllocated is what the reading of one may allocate altogether.
const (
	smallFile     = 8 << 10
	mostAllocated = 64 << 20
)

const serviceHead = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"

// filled repeats a text until the file is full.
func filled(head, unit, tail string) string {
	return head + strings.Repeat(unit, max(0, smallFile-len(head)-len(tail))/len(unit)) + tail
}

// multiplied is a chain of values each of which names the one before n times.
func multiplied(first, open, shut string, n int) string {
	text := "a0: &a0 " + first + "\n"
	for i := 1; len(text) < smallFile/2; i++ {
		text += fmt.Sprintf("a%d: &a%d %s%s%s\n", i, i, open, strings.Repeat(fmt.Sprintf("*a%d, ", i-1), n), shut)
	}
	return text
}

// hostile are files that are small and stand for much.
func hostile() map[string]string {
	long := strings.Repeat("x", smallFile/2)
	many := strings.Repeat("{}, ", smallFile/8)
	files := map[string]string{
		"lists of lists.yaml":             serviceHead + multiplied("[x, x, x, x]", "[", "]", 9),
		"lists of one list.yaml":          filled(serviceHead+"a: &a ["+many+"]\nspec: {ports: [", "*a, ", "]}\n"),
		"ports.yaml":                      filled(serviceHead+"spec:\n  clusterIP: 10.0.0.1\n  ports: [", "{}, ", "]\n"),
		"ports of a port.yaml":            filled(serviceHead+"spec:\n  clusterIP: 10.0.0.1\n  ports: [&a {port: 70000, name: UPPER}, ", "*a, ", "]\n"),
		"items.yaml":                      filled("apiVersion: v1\nkind: List\nitems:\n- &a "+"{apiVersion: v1, kind: Service, spec: {ports: ["+many[:smallFile/4]+"]}}\n", "- *a\n", ""),
		"large items.yaml":                filled("apiVersion: v1\nkind: List\nitems:\n- &a {apiVersion: v1, kind: Service, metadata: {name: "+long+"}}\n", "- *a\n", ""),
		"lists of items.yaml":             "apiVersion: v1\nkind: List\n" + multiplied("{apiVersion: v1, kind: Service}", "[", "]", 9) + "items: *a5\n",
		"long texts.yaml":                 filled(serviceHead+"a: &a "+long+"\nspec: {externalIPs: [", "*a, ", "]}\n"),
		"long escaped texts.yaml":         filled(serviceHead+"a: &a \""+strings.Repeat(`\0`, smallFile/4)+"\"\nspec: {externalIPs: [", "*a, ", "]}\n"),
		"long keys.yaml":                  filled(serviceHead+"a: &a "+long+"\nspec: {", "*a : x, ", "}\n"),
		"merges.yaml":                     serviceHead + multiplied("{a: x, b: y, c: z}", "{<<: [", "]}", 9),
		"merges of one.yaml":              filled(serviceHead+"a: &a {"+strings.Repeat("a: b, ", 10)+"}\nspec: {<<: [", "*a, ", "]}\n"),
		"merges of a large one.yaml":      filled(serviceHead+"a: &a {"+numbered(smallFile/20)+"}\nspec: {<<: [", "*a, ", "]}\n"),
		"mappings with merges.yaml":       filled(serviceHead+"a: &a {"+numbered(smallFile/40)+"}\nspec: {ports: [", "{<<: *a}, ", "]}\n"),
		"a merge of itself.yaml":          serviceHead + "a: &a {" + numbered(smallFile/20) + "<<: [" + strings.Repeat("*a, ", 500) + "]}\n",
		"a list of itself.yaml":           serviceHead + "a: &a [" + strings.Repeat("*a, ", 1900) + "]\n",
		"itself as items.yaml":            "apiVersion: v1\nkind: List\nitems: &a [" + strings.Repeat("*a, ", 1900) + "]\n",
		"aliases in each document.yaml":   filled("", serviceHead+"a: &a ["+strings.Repeat("x, ", 100)+"]\nb: ["+strings.Repeat("*a, ", 100)+"]\n---\n", ""),
		"unknown fields.yaml":             serviceHead + "spec: {" + numbered(smallFile/10) + "}\n",
		"double fields.yaml":              filled(serviceHead+"spec: {", "a: b, ", "}\n"),
		"labels.yaml":                     "apiVersion: v1\nkind: Service\nmetadata: {name: web, labels: {" + numbered(smallFile/10) + "}}\nspec: {ports: [" + strings.Repeat("{}, ", 200) + "]}\n",
		"endpoints.yaml":                  filled("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web}\naddressType: IPv4\nendpoints: [", "{}, ", "]\n"),
		"endpoints of an endpoint.yaml":   filled("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web}\naddressType: IPv4\nendpoints: [&a {}, ", "*a, ", "]\n"),
		"documents.yaml":                  filled("", "---\n", ""),
		"documents of text.yaml":          filled("", "x\n---\n", ""),
		"deep lists.yaml":                 strings.Repeat("[", smallFile),
		"deep lists that end.yaml":        strings.Repeat("[", smallFile/2) + strings.Repeat("]", smallFile/2),
		"deep mappings.yaml":              strings.Repeat("{a: ", smallFile/4),
		"deep blocks.yaml":                strings.Repeat("- ", smallFile/2),
		"deep keys.yaml":                  strings.Repeat("? ", smallFile/2),
		"deep and wrong.yaml":             filled("a:\n", "- [\n", "}"),
		"wrong in the last line.yaml":     filled("a:\n", "- b: [c, d]\n", "  x: }\n"),
		"wrong in its first mapping.yaml": filled("a: {\n", "a: [b],\n", "]\n"),
		"comments.yaml":                   filled("", "#\n", ""),
		"comments between.yaml":           filled("", "- # x\n", ""),
		"comments in lists.yaml":          filled("[", "# x\n1,\n", "]\n"),
		"tags.yaml":                       filled("[", "!a b, ", "]\n"),
		"anchors.yaml":                    filled("[", "&a b, ", "]\n"),
		"numbers.yaml":                    serviceHead + "spec: " + strings.Repeat("9", smallFile/2) + "\n",
		"floats.yaml":                     filled(serviceHead+"spec: [", "1e9, ", "]\n"),
		"folded.yaml":                     filled("a: >\n", " x\n\n", ""),
		"quoted lines.yaml":               filled("a: \"", "x\n\n", "\"\n"),
		"deep.json":                       strings.Repeat("[", smallFile),
		"deep objects.json":               strings.Repeat(`{"a":`, smallFile/5),
		"documents.json":                  filled("", "1 ", ""),
		"objects.json":                    filled("", "{}", ""),
		"ports.json":                      filled(`{"apiVersion":"v1","kind":"Service","spec":{"ports":[{}`, ",{}", "]}}"),
		"escapes.json":                    filled(`{"apiVersion":"`, `\u0000`, `"}`),
	}
	return files
}

// numbered is the inside of a mapping of that many bytes.
func numbered(bytes int) string {
	var b strings.Builder
	for i := 0; b.Len() < bytes; i++ {
		fmt.Fprintf(&b, "k%d: v, ", i)
	}
	return b.String()
}

// allocated returns how many bytes a function allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestHostileFiles: no file of 8 kB takes much to read, or keeps others from being read.
func TestHostileFiles(t *testing.T) {
	for name, text := range hostile() {
		t.Run(name, func(t *testing.T) {
			if len(text) > smallFile+smallFile/4 {
				t.Fatalf("the file has %d bytes", len(text))
			}
			dir := t.TempDir()
			good := serviceHead + "spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}\n"
			for file, text := range map[string]string{name: text, "good.yaml": good} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var all Objects
			var errs []error
			n := allocated(func() { all, errs = Source{Dir: dir}.Read() })
			if n > mostAllocated {
				t.Errorf("%d MB were allocated", n>>20)
			}
			if len(all.Services) != 1 {
				t.Errorf("the other file's Service was not read: %v", errs)
			}
			if len(errs) > maxFaults+1 {
				t.Errorf("%d faults are told", len(errs))
			}
			if n := allocated(func() { _ = CheckExpansion([]byte(text)) }); n > mostAllocated {
				t.Errorf("to check the file %d MB were allocated", n>>20)
			}
		})
	}
}

// TestUsefulAliases: aliases that share what the file says often are fine, however many there are.
func TestUsefulAliases(t *testing.T) {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: List\nitems:\n")
	const services = 5000
	for i := range services {
		ports, labels := "*ports", "*labels"
		if i == 0 {
			ports, labels = "&ports [{name: a, port: 80}, {name: b, port: 443}]", "&labels {app: web, tier: front, team: blue}"
		}
		fmt.Fprintf(&b, "- apiVersion: v1\n  kind: Service\n  metadata: {name: s%d, labels: %s}\n  spec: {clusterIP: 10.0.%d.%d, ports: %s}\n", i, labels, i/256, i%256, ports)
	}
	objects, faults := parseManifest("f.yaml", []byte(b.String()), "")
	if len(faults) > 0 || len(objects) != services {
		t.Errorf("%d objects, %v", len(objects), faults)
	}
	if err := CheckExpansion([]byte(b.String())); err != nil {
		t.Error(err)
	}
}

// TestCheckExpansionFault: a file with a syntax error is refused, whatever its lines end with.
func TestCheckExpansionFault(t *testing.T) {
	for _, text := range []string{"a: &a b\n- c\n", "a: &a b\r- c\r", "a: &a \"x\u2028y\u2028z\"\n- c\n"} {
		if err := CheckExpansion([]byte(text)); err == nil || !strings.Contains(err.Error(), "did not find expected key") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestLargeFile: a file that is too large is told of and not read.
func TestLargeFile(t *testing.T) {
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "large.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(maxFileBytes + 1); err != nil {
		t.Fatal(err)
	}
	var errs []error
	n := allocated(func() { _, errs = Source{Dir: dir}.Read() })
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), "large.yaml: is larger than 64 MiB") || n > 1<<20 {
		t.Errorf("%v; %d kB were allocated", errs, n>>10)
	}
}
