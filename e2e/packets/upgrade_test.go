// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
	"github.com/nftproxy/nftproxy/nfnetlink"
)

// layouts are what earlier versions sent to nf_tables for the Services of TestUpgrade (nft could not load its own listing of them). Who
// changes the layout adds that of the version before: NFTPROXY_RECORD_LAYOUT=PROGRAM,NAME makes the test run that program first, and
// write NAME.gz.
const layouts = "testdata/layouts/*.gz"

// upgradeServices has Services of each kind whose rules have changed or may.
func (w *world) upgradeServices() (three, loyal *svc, all []*svc) {
	a, b, c := w.Local[0], w.RemotePods[0], w.RemotePods[1]
	three, loyal = w.service("three").to(ready(a, b, c)), w.service("loyal", sticky(10800)).to(ready(a, b, c))
	return three, loyal, []*svc{three, loyal, w.service("one").to(ready(b)), w.service("none")}
}

// TestUpgrade: nftproxy takes over what an earlier version left, with another layout of the tables, in one transaction: no connection
// fails, open ones go on, and clients with session affinity stay with their endpoints.
func TestUpgrade(t *testing.T) {
	if record := os.Getenv("NFTPROXY_RECORD_LAYOUT"); record != "" {
		recordLayout(t, record)
	}
	files, err := filepath.Glob(layouts)
	if err != nil || len(files) == 0 {
		t.Fatalf("no layouts (%v)", err)
	}
	for _, file := range files {
		for _, own := range []string{"auto", "never"} { // the tables are replaced, or changed where they are
			t.Run(strings.TrimSuffix(filepath.Base(file), ".gz")+"/"+own, func(t *testing.T) {
				t.Parallel()
				upgrade(t, file, own)
			})
		}
	}
}

func upgrade(t *testing.T, layout, own string) {
	w := newWorld(t, config{args: []string{"--own-tables=" + own}})
	three, loyal, all := w.upgradeServices()
	w.apply(t, all...)
	w.stop(t)
	w.run(t, "cleanup")
	w.replay(t, layout)
	backends := map[string]string{}
	for range 2 {
		w.wantLoyal(t, loyal, backends)
	}
	l := startLoad(t, w, three, w.Local[0], w.RemotePods[0], w.RemotePods[1])
	l.goOn(t)
	starts := []string{"it wrote nothing: it is the layout of today", "it wrote something at a later start", "it wrote something at a later start"}
	for i, wrong := range starts {
		w.start(t)
		l.goOn(t)
		if log := w.nftproxy.Log(); strings.Contains(log, "changes=0 ") == (i == 0) {
			t.Errorf("%s:\n%s", wrong, log)
		}
		w.wantLoyal(t, loyal, backends)
		w.run(t, append([]string{"diff"}, w.args[1:len(w.args)-1]...)...)
		if i+1 < len(starts) {
			w.stop(t)
		}
	}
	l.end()
	for _, c := range l.cycles { // the turns may begin anew
		for _, r := range c.results {
			if r.Outcome != traffic.Answered {
				t.Errorf("%s to %s: %s", c.protocol, c.to, r)
			}
		}
	}
	for _, err := range l.failed() {
		t.Error(err)
	}
	w.apply(t, three.to(ready(w.RemotePods[2])))
	w.wantEverywhere(t, three, spread(w.RemotePods[2]))
}

// recordLayout writes what a program sends to nf_tables for the Services, PROGRAM,NAME. strace tells it.
func recordLayout(t *testing.T, record string) {
	t.Helper()
	program, name, _ := strings.Cut(record, ",")
	w := newWorld(t, config{})
	_, _, all := w.upgradeServices()
	w.apply(t, all...)
	w.stop(t)
	w.run(t, "cleanup")
	trace := filepath.Join(t.TempDir(), "trace")
	args := append([]string{"-D", "-f", "-e", "trace=sendto", "-e", "write=all", "-o", trace, program}, w.args...)
	p, err := proxy.Start(proxy.Config{Program: netnstest.Tool(t, "strace"), Args: args, NS: w.Node.NS})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	w.nftproxy = p
	w.programmed(t)
	w.stop(t)
	w.start(t) // for the end
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	var batches bytes.Buffer
	z := gzip.NewWriter(&batches)
	for _, batch := range sentBatches(t, string(text)) {
		_, _ = z.Write(batch)
	}
	if err := errors.Join(z.Close(), os.WriteFile(filepath.Join(filepath.Dir(layouts), name+".gz"), batches.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// sentBatches returns the transactions among the datagrams that strace tells.
func sentBatches(t *testing.T, trace string) (out [][]byte) {
	t.Helper()
	for call := range strings.SplitSeq(trace, "sendto(") {
		var datagram []byte
		for _, m := range regexp.MustCompile(`(?m)^ \| [0-9a-f]{5}  (.{49})`).FindAllStringSubmatch(call, -1) {
			part, err := hex.DecodeString(strings.ReplaceAll(m[1], " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			datagram = append(datagram, part...)
		}
		if len(datagram) > unix.NLMSG_HDRLEN && binary.NativeEndian.Uint16(datagram[4:]) == unix.NFNL_MSG_BATCH_BEGIN {
			out = append(out, datagram)
		}
	}
	return out
}

// replay sends recorded transactions to the node's nf_tables, as the program did that was recorded.
func (w *world) replay(t *testing.T, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	batches, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Node.Do(func() error { return sendBatches(batches) }); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// sendBatches sends one transaction after the other.
func sendBatches(batches []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, len(batches)); err != nil {
		return err
	}
	for start, at := 0, 0; at < len(batches); {
		typ := binary.NativeEndian.Uint16(batches[at+4:])
		at += int(binary.NativeEndian.Uint32(batches[at:])+3) &^ 3
		if typ != unix.NFNL_MSG_BATCH_END {
			continue
		}
		if err := unix.Sendto(fd, batches[start:at], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		start = at
		if err := firstRefusal(fd); err != nil {
			return err
		}
	}
	return nil
}

// firstRefusal returns the first error among the answers that are there.
func firstRefusal(fd int) error {
	answer := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, answer, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil {
			return err
		}
		var first error
		err = nfnetlink.EachMessage(answer[:n], func(m nfnetlink.Message) {
			if e := m.Err(); m.Type == unix.NLMSG_ERROR && e != nil && first == nil {
				first = e
			}
		})
		if err = errors.Join(first, err); err != nil {
			return err
		}
	}
}
