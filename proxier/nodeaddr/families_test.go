// SPDX-License-Identifier: Apache-2.0

package nodeaddr

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestFamilies(t *testing.T) {
	for name, tt := range map[string]struct {
		conf         map[string]string // disable_ipv6 by interface
		missing      int               // the family without sockets
		want4, want6 bool
	}{
		"both":                     {map[string]string{"all": "0", "default": "0", "lo": "0"}, 0, true, true},
		"all off":                  {map[string]string{"all": "1", "default": "1", "lo": "1"}, 0, true, false},
		"one interface on":         {map[string]string{"all": "1", "default": "1", "lo": "1", "eth0": "0"}, 0, true, true},
		"on for those to come":     {map[string]string{"all": "1", "default": "0", "lo": "1"}, 0, true, true},
		"no IPv6 sockets":          {nil, syscall.AF_INET6, true, false},
		"no IPv4 sockets":          {map[string]string{"all": "0"}, syscall.AF_INET, false, true},
		"nothing known, so all on": {nil, 0, true, true},
	} {
		root := t.TempDir()
		for i, value := range tt.conf {
			dir := filepath.Join(root, "proc/sys/net/ipv6/conf", i)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "disable_ipv6"), []byte(value+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		v4, v6 := families(root, func(domain int) error {
			if domain == tt.missing {
				return os.NewSyscallError("socket", syscall.EAFNOSUPPORT)
			}
			return nil
		})
		if v4 != tt.want4 || v6 != tt.want6 {
			t.Errorf("%s: IPv4 %v, IPv6 %v; want %v, %v", name, v4, v6, tt.want4, tt.want6)
		}
	}
}
