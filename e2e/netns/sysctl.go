// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
)

// Sysctl reads a value below /proc/sys/net as it is in the namespace, such as
// "ipv4/ip_forward".
func (n *NS) Sysctl(name string) (string, error) {
	var text []byte
	err := n.Do(func() (err error) {
		text, err = os.ReadFile(sysctlPath(name))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read sysctl in network namespace %s: %w", n.name, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// SetSysctl writes a value below /proc/sys/net in the namespace.
func (n *NS) SetSysctl(name, value string) error {
	return n.setSysctls([]sysctl{{name: name, value: value}})
}

type sysctl struct {
	name, value string
	optional    bool // older kernels do not have it, or not for user namespaces
}

func (n *NS) setSysctls(list []sysctl) error {
	return n.Do(func() error {
		for _, s := range list {
			err := os.WriteFile(sysctlPath(s.name), []byte(s.value), 0)
			if err != nil && !(s.optional && (errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission))) {
				return fmt.Errorf("set sysctl to %q in network namespace %s (is /proc/sys read-only, as in a container?): %w", s.value, n.name, err)
			}
		}
		return nil
	})
}

// loadTracking makes the kernel load connection tracking if it has not: until then there are none of its settings. Where it
// cannot, as in a user namespace, they keep the kernel's values.
func (n *NS) loadTracking() error {
	return n.Do(func() error {
		if _, err := os.Stat(sysctlPath("netfilter/nf_conntrack_udp_timeout")); err != nil {
			_, _ = netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
		}
		return nil
	})
}

func sysctlPath(name string) string { return filepath.Join("/proc/sys/net", name) }

// hostSysctls are the settings of every namespace of the cluster. They are
// written before any link exists, because new namespaces inherit some of the
// machine's settings.
func hostSysctls(forward bool) []sysctl {
	onOff := "0"
	if forward {
		onOff = "1"
	}
	list := []sysctl{
		// First, because it changes the redirect settings.
		{name: "ipv4/ip_forward", value: onOff},
		{name: "ipv6/conf/all/forwarding", value: onOff},
		{name: "ipv6/conf/default/forwarding", value: onOff},
		// 'Connection refused' must come each time, not six times and then once a second.
		{name: "ipv4/icmp_ratemask", value: "0"},
		{name: "ipv6/icmp/ratelimit", value: "0"},
		{name: "ipv6/icmp/ratemask", value: "0", optional: true}, // a list of types: only type 0
		// An association that is not complete is forgotten after 3 seconds otherwise, and a UDP flow after 30, or 120 if
		// more than one was answered: less than a busy machine may take from one packet to the next.
		{name: "netfilter/nf_conntrack_sctp_timeout_cookie_wait", value: "60", optional: true},
		{name: "netfilter/nf_conntrack_sctp_timeout_cookie_echoed", value: "60", optional: true},
		{name: "netfilter/nf_conntrack_udp_timeout", value: "3600", optional: true},
		{name: "netfilter/nf_conntrack_udp_timeout_stream", value: "3600", optional: true},
	}
	for _, scope := range []string{"all", "default"} {
		list = append(list,
			sysctl{name: "ipv4/conf/" + scope + "/rp_filter", value: "0"},
			// A pod that reaches itself through a service makes the node forward out of where a packet came in.
			sysctl{name: "ipv4/conf/" + scope + "/send_redirects", value: "0"},
			sysctl{name: "ipv4/conf/" + scope + "/accept_redirects", value: "0"},
			sysctl{name: "ipv6/conf/" + scope + "/accept_redirects", value: "0"},
			sysctl{name: "ipv6/conf/" + scope + "/disable_ipv6", value: "0"},
			sysctl{name: "ipv6/conf/" + scope + "/accept_dad", value: "0"},
			sysctl{name: "ipv6/conf/" + scope + "/addr_gen_mode", value: "0"},
			sysctl{name: "ipv6/conf/" + scope + "/accept_ra", value: "0"},
			sysctl{name: "ipv6/conf/" + scope + "/router_solicitations", value: "0"},
		)
	}
	return list
}
