// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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
		errs = append(errs, raise(root, "proc/sys/net/netfilter/nf_conntrack_max", most),
			raise(root, "sys/module/nf_conntrack/parameters/hashsize", most/4))
	}
	for _, t := range []struct {
		name string
		time time.Duration
	}{
		{"tcp_timeout_established", s.TCPEstablished}, {"tcp_timeout_close_wait", s.TCPCloseWait},
		{"udp_timeout", s.UDP}, {"udp_timeout_stream", s.UDPStream},
	} {
		if t.time > 0 {
			errs = append(errs, set(root, "proc/sys/net/netfilter/nf_conntrack_"+t.name, int(t.time/time.Second)))
		}
	}
	if s.TCPBeLiberal {
		errs = append(errs, set(root, "proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal", 1))
	}
	return errors.Join(errs...)
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
	if err := os.WriteFile(filepath.Join(root, name), []byte(strconv.Itoa(n)), 0o640); err != nil {
		return fmt.Errorf("set to %d: %w", n, err)
	}
	return nil
}
