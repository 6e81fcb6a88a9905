// SPDX-License-Identifier: Apache-2.0

package explain

import "testing"

// FuzzTarget: a target is a Service or an address, or else it is refused.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{"default/web", "default/web:http", "10.96.0.10:80/tcp", "[fd00::1]:80/SCTP", "10.96.0.10:80",
		"[::ffff:10.0.0.1]:1/udp", "/", "a/", "a/b/c", "10.96.0.10:80/", ":/:", "[fe80::1%eth0]:80/tcp"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		target, err := ParseTarget(text, "")
		service := target.Namespace != "" && target.Name != ""
		if err == nil && service == target.isAddress() {
			t.Errorf("%q is %+v", text, target)
		}
	})
}
