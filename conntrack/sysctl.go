// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxEntries caps what follows from the number of CPUs, as kube-proxy does: more would
// take hundreds of megabytes.
const maxEntries = 1 << 20

// Settings is what the kernel's connection tracking is set to at the start. Zero values
// leave things as they are. The names and rules are kube-proxy's.
type Settings struct {
	MaxPerCore     int // connections tracked for each CPU; 0: Min does not count either
	Min            int // connections tracked at least
	TCPEstablished time.Duration
	TCPCloseWait   time.Duration
	TCPBeLiberal   bool // let TCP packets outside the window pass
	UDP            time.Duration
	UDPStream      time.Duration
}

// Max returns how many connections are to be tracked on a machine of so many CPUs; 0:
// as many as now.
func (s Settings) Max(cpus int) int {
	if s.MaxPerCore <= 0 {
		return 0
	}
	return max(min(s.MaxPerCore*cpus, maxEntries), s.Min)
}

// Apply sets what is not so yet, on a machine of so many CPUs whose /proc and /sys are
// below root. It goes on after an error: each says which file could not be written.
func (s Settings) Apply(root string, cpus int) error {
	var errs []error
	if most := s.Max(cpus); most > 0 {
		errs = append(errs, raise(root, sysctls+"max", most), raiseBuckets(root, most/4))
	}
	for _, v := range s.exact() {
		errs = append(errs, set(root, sysctls+v.Name, v.Want))
	}
	return errors.Join(errs...)
}

// sysctls is what the names of connection tracking's begin with.
const sysctls = "proc/sys/net/netfilter/nf_conntrack_"

// Value is a number that connection tracking is set to.
type Value struct {
	Name      string // without nf_conntrack_
	Want, Now int
	Least     bool // a larger number is as good
}

// OK says whether the number is as it should be.
func (v Value) OK() bool { return v.Now == v.Want || v.Least && v.Now > v.Want }

// exact returns the numbers that are to be so and not otherwise.
func (s Settings) exact() (out []Value) {
	for _, t := range []struct {
		name string
		time time.Duration
	}{
		{"tcp_timeout_established", s.TCPEstablished}, {"tcp_timeout_close_wait", s.TCPCloseWait},
		{"udp_timeout", s.UDP}, {"udp_timeout_stream", s.UDPStream},
	} {
		if t.time > 0 {
			out = append(out, Value{Name: t.name, Want: int(t.time / time.Second)})
		}
	}
	if s.TCPBeLiberal {
		out = append(out, Value{Name: "tcp_be_liberal", Want: 1})
	}
	return out
}

// InForce returns what is in force below root of what Apply sets on a machine of so many CPUs.
func (s Settings) InForce(root string, cpus int) (out []Value, err error) {
	if most := s.Max(cpus); most > 0 {
		out = append(out, Value{Name: "max", Want: most, Least: true})
	}
	out = append(out, s.exact()...)
	for i := range out {
		if out[i].Now, err = read(root, sysctls+out[i].Name); err != nil {
			return nil, fmt.Errorf("read a setting of connection tracking: %w", err)
		}
	}
	return out, nil
}

// raiseBuckets makes the hash table larger, by its module's parameter as kube-proxy does, else by the sysctl.
func raiseBuckets(root string, n int) error {
	err := raise(root, "sys/module/nf_conntrack/parameters/hashsize", n)
	if err == nil {
		return nil
	}
	if second := raise(root, sysctls+"buckets", n); second == nil || errors.Is(err, fs.ErrNotExist) && !errors.Is(second, fs.ErrNotExist) {
		return second
	}
	return err
}

// raise sets a number that is smaller.
func raise(root, name string, n int) error {
	if now, err := read(root, name); err == nil && now >= n {
		return nil
	}
	return write(root, name, n)
}

// set sets a number that is another.
func set(root, name string, n int) error {
	if now, err := read(root, name); err == nil && now == n {
		return nil
	}
	return write(root, name, n)
}

func read(root, name string) (int, error) {
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

func write(root, name string, n int) error {
	// Root could open it, but the kernel would refuse: it belongs to another network namespace.
	if info, err := os.Stat(filepath.Join(root, name)); err == nil && info.Mode().Perm()&0o222 == 0 {
		return fmt.Errorf("set %s to %d: it belongs to another network namespace: %w", filepath.Join(root, name), n, syscall.EROFS)
	}
	if err := os.WriteFile(filepath.Join(root, name), []byte(strconv.Itoa(n)), 0o640); err != nil { //nolint:gosec // the kernel's file is there, and keeps its mode
		return fmt.Errorf("set to %d: %w", n, err)
	}
	return nil
}

// Usage is how full the table of the network namespace is.
type Usage struct {
	Entries uint32 // sysctl net.netfilter.nf_conntrack_count
	Max     uint32 // sysctl net.netfilter.nf_conntrack_max; 0 is no limit
}
