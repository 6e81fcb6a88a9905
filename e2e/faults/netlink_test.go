// SPDX-License-Identifier: Apache-2.0

//go:build linux

package faults

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// TestNetlinkErrors has the calls of a real nftproxy fail that send to the kernel and receive from it, one in so many, while
// Services change. strace does that.
func TestNetlinkErrors(t *testing.T) {
	strace := netnstest.Tool(t, "strace")
	errnos := Amount([]string{"ENOBUFS"}, []string{"ENOBUFS", "EPERM"}, []string{"ENOBUFS", "EINTR", "EAGAIN", "EBUSY", "ENOMEM", "EPERM"})
	long := Amount(time.Second, 4*time.Second, 10*time.Second)
	for _, errno := range errnos {
		t.Run(errno, func(t *testing.T) {
			w := newWorld(t)
			w.put(0, w.pod(0), w.pod(2))
			w.put(1, w.pod(1))
			w.start()
			l := w.load(0, 1)
			w.nftproxy.Kill()
			// Not the first ones, without which it does not start.
			self, err := os.Executable()
			w.must(err)
			config := w.process(append([]string{"-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=sendto,recvfrom",
				"-e", fmt.Sprintf("inject=sendto,recvfrom:error=%s:when=200+13", errno), self}, w.args...)...)
			config.Program = strace
			w.nftproxy, err = proxy.Start(config)
			w.must(err)
			w.must(w.nftproxy.WaitSynced(w.patient()))
			for begin, i := time.Now(), 0; time.Since(begin) < long; i++ {
				w.put(2+i%5, w.pod(i))
				time.Sleep(50 * time.Millisecond)
			}
			begin := time.Now()
			w.programmed()
			right := time.Since(begin)
			counts := l.End()
			w.equal()
			Record(t, Result{Row: "netlink", Fault: fmt.Sprintf("one call in 13 fails with %s, %v", errno, long), Counts: counts, Right: right})
		})
	}
}
