// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// A resolver asks for A and AAAA at once from one socket. Both are answered.
func TestTwoDatagramsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	s := w.service("dns").to(ready(w.Local[0], w.Local[1], w.RemotePods[0], w.RemotePods[1]))
	w.apply(t, s)
	const pairs = 10000
	for _, f := range netns.Families() {
		to := s.at(f, servicePort)
		err := w.Client.Do(func() error {
			lost := 0
			for i := range pairs {
				n, err := askTwice(to, 33000+i%28000)
				if err != nil {
					return err
				}
				lost += 2 - n
			}
			if lost > 0 {
				t.Errorf("%s: %d of %d datagrams were not answered", f, lost, 2*pairs)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// askTwice sends two datagrams from a new socket before it reads, and returns how
// many answers came.
func askTwice(to netip.AddrPort, port int) (int, error) {
	conn, err := net.DialUDP("udp", &net.UDPAddr{Port: port}, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	for _, question := range []string{"A", "AAAA"} {
		if _, err := conn.Write([]byte(question)); err != nil {
			return 0, err
		}
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	buf := make([]byte, 1500)
	for n := range 2 {
		if _, err := conn.Read(buf); os.IsTimeout(err) {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
	return 2, nil
}
