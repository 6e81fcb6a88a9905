// SPDX-License-Identifier: Apache-2.0

package nodeaddr

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Families says which families of addresses a machine has whose /proc is below root. IPv6 is not there if the kernel has no
// sockets of it (ipv6.disable=1), or if it is switched off on every interface and on those to come (disable_ipv6).
func Families(root string) (v4, v6 bool) { return families(root, trySocket) }

func families(root string, try func(domain int) error) (v4, v6 bool) {
	has := func(domain int) bool { return !errors.Is(try(domain), syscall.EAFNOSUPPORT) }
	return has(syscall.AF_INET), has(syscall.AF_INET6) && !switchedOff(root)
}

func trySocket(domain int) error {
	fd, err := syscall.Socket(domain, syscall.SOCK_DGRAM, 0)
	if err == nil {
		err = syscall.Close(fd)
	}
	return err
}

// switchedOff says whether IPv6 is switched off on all interfaces.
func switchedOff(root string) bool {
	files, err := filepath.Glob(filepath.Join(root, "proc/sys/net/ipv6/conf/*/disable_ipv6"))
	if err != nil || len(files) == 0 {
		return false
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err == nil && strings.TrimSpace(string(text)) != "1" { // an interface may have gone
			return false
		}
	}
	return true
}
