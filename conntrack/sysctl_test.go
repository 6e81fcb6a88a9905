// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSettingsMax(t *testing.T) {
	for _, row := range []struct{ perCore, min, cpus, want int }{
		{0, 131072, 8, 0},
		{32768, 131072, 2, 131072},
		{32768, 131072, 8, 262144},
		{32768, 131072, 64, 1 << 20},
		{32768, 0, 2, 65536},
		{32768, 2 << 20, 64, 2 << 20}, // the least is more than what follows from the CPUs at most
		{1, 4 << 20, 2, 4 << 20},
	} {
		if got := (Settings{MaxPerCore: row.perCore, Min: row.min}).Max(row.cpus); got != row.want {
			t.Errorf("%d a core, at least %d, %d cores: %d, want %d", row.perCore, row.min, row.cpus, got, row.want)
		}
	}
}

func TestSettingsApply(t *testing.T) {
	root := t.TempDir()
	const hashsize = "sys/module/nf_conntrack/parameters/hashsize"
	put := func(name, value string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(name, want string) {
		t.Helper()
		got, err := os.ReadFile(filepath.Join(root, name))
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s is %q, %v, want %s", name, got, err, want)
		}
	}
	for name, value := range map[string]string{"max": "65536", "tcp_timeout_established": "432000", "tcp_timeout_close_wait": "60",
		"tcp_be_liberal": "0", "udp_timeout": "30", "udp_timeout_stream": "120"} {
		put(sysctls+name, value)
	}
	put(hashsize, "65536")
	s := Settings{MaxPerCore: 32768, Min: 131072, TCPEstablished: 24 * time.Hour, TCPCloseWait: time.Hour}
	if err := s.Apply(root, 2); err != nil {
		t.Fatal(err)
	}
	expect(sysctls+"max", "131072")
	expect(hashsize, "65536") // large enough
	expect(sysctls+"tcp_timeout_established", "86400")
	expect(sysctls+"tcp_timeout_close_wait", "3600")
	expect(sysctls+"tcp_be_liberal", "0")
	expect(sysctls+"udp_timeout", "30")

	put(hashsize, "1024")
	s = Settings{MaxPerCore: 1024, TCPBeLiberal: true, UDP: time.Minute, UDPStream: 5 * time.Minute}
	if err := s.Apply(root, 2); err != nil {
		t.Fatal(err)
	}
	expect(sysctls+"max", "131072") // never lowered
	expect(sysctls+"tcp_be_liberal", "1")
	expect(sysctls+"udp_timeout", "60")
	expect(sysctls+"udp_timeout_stream", "300")

	// Where there is no /sys, the sysctl does as well.
	bare := t.TempDir()
	for name, value := range map[string]string{"max": "1", "buckets": "1"} {
		path := filepath.Join(bare, sysctls+name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := (Settings{MaxPerCore: 1000}).Apply(bare, 4); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(bare, sysctls+"buckets")); err != nil || string(got) != "1000" {
		t.Errorf("nf_conntrack_buckets is %s, %v, want 1000", got, err)
	}

	// What is in force can be told.
	values, err := s.InForce(root, 4)
	if err != nil || len(values) != 4 {
		t.Fatalf("in force: %v, %v", values, err)
	}
	for _, v := range values {
		if !v.OK() {
			t.Errorf("%+v is not as it should be", v)
		}
	}
	put(sysctls+"udp_timeout", "61")
	put(sysctls+"max", "100")
	if values, err = s.InForce(root, 4); err != nil || values[0].OK() || values[1].OK() || !values[2].OK() {
		t.Errorf("in force: %+v, %v; want max and udp_timeout not as they should be", values, err)
	}

	// What belongs to another network namespace is no fault of the rights.
	if err := os.Chmod(filepath.Join(root, sysctls+"max"), 0o444); err != nil {
		t.Fatal(err)
	}
	if err := (Settings{MaxPerCore: 1 << 10}).Apply(root, 4); !errors.Is(err, syscall.EROFS) {
		t.Errorf("a setting of another network namespace: %v", err)
	}

	// What cannot be written is named, and the rest is set.
	if err := os.RemoveAll(filepath.Join(root, sysctls+"udp_timeout")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, sysctls+"udp_timeout"), 0o755); err != nil {
		t.Fatal(err)
	}
	s = Settings{UDP: time.Minute, UDPStream: 10 * time.Minute}
	if err := s.Apply(root, 2); err == nil || !strings.Contains(err.Error(), "nf_conntrack_udp_timeout:") {
		t.Errorf("the error is %v, want one that names nf_conntrack_udp_timeout", err)
	}
	expect(sysctls+"udp_timeout_stream", "600")

	// Always in the same order.
	s = Settings{MaxPerCore: 1, TCPEstablished: time.Hour, TCPCloseWait: time.Hour, TCPBeLiberal: true, UDP: time.Minute, UDPStream: time.Minute}
	var got []string
	for line := range strings.Lines(s.Apply(t.TempDir(), 1).Error()) {
		path, _, _ := strings.Cut(line, ": no such file")
		got = append(got, filepath.Base(path))
	}
	if want := "nf_conntrack_max hashsize nf_conntrack_tcp_timeout_established nf_conntrack_tcp_timeout_close_wait nf_conntrack_udp_timeout " +
		"nf_conntrack_udp_timeout_stream nf_conntrack_tcp_be_liberal"; strings.Join(got, " ") != want {
		t.Errorf("the error names %q, want %s", got, want)
	}
}
