// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzManifest: whatever a file says, it is read or refused, with a reason that names the file.
func FuzzManifest(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "testdata/*/*.yaml", "../../../e2e/demo/manifests/*.yaml", "../../../cmd/nftproxy/app/testdata/*/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data, false)
		}
	}
	f.Add([]byte(`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"b"},"spec":{"clusterIP":"10.96.0.1","ports":[{"port":80}]}}]}`), true)
	f.Add([]byte("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"), false)
	f.Add([]byte("apiVersion: v1\nkind: Service\nmetadata: &m {name: a, namespace: b}\nspec: {<<: *m, clusterIP: 10.96.0.1}\n"), false)
	f.Add([]byte("a: &a \"x\u2028y\u2028z\"\n- c\n"), false)
	f.Fuzz(func(t *testing.T, data []byte, json bool) {
		file := "file.yaml"
		if json {
			file = "file.json"
		}
		objects, faults := parseManifest(file, data, "")
		if len(objects) > 0 && len(faults) > 0 {
			t.Errorf("%d objects of a file with faults: %v", len(objects), faults[0])
		}
		for _, fault := range faults {
			if fault.File != file || fault.Reason == "" {
				t.Errorf("the fault %+v does not say where or what", fault)
			}
		}
	})
}
