// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netnstest

import (
	"io"
	"testing"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// NFTables returns a connection to a namespace's nftables. Each flush, and each question, has a socket of its own, which is
// closed afterwards. Other than nftables.New's it works beside a thousand open connections: that waits for its socket with
// pselect, whose sets of descriptors end at 1,023.
func NFTables(t testing.TB, n *netns.NS) *nftables.Conn {
	t.Helper()
	return dialNFTables(t, (&transport{ns: n}).exchange)
}

// LastingNFTables is NFTables with one socket until the test ends.
func LastingNFTables(t testing.TB, n *netns.NS) *nftables.Conn {
	t.Helper()
	tr := &transport{ns: n, lasting: true}
	t.Cleanup(tr.close)
	return dialNFTables(t, tr.exchange)
}

func dialNFTables(t testing.TB, exchange func([]netlink.Message) ([]netlink.Message, error)) *nftables.Conn {
	t.Helper()
	c, err := nftables.New(nftables.WithTestDial(exchange))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// transport carries the messages of an nftables.Conn.
type transport struct {
	ns      *netns.NS
	lasting bool
	conn    *netlink.Conn
}

// exchange sends requests, or with none receives what has come: io.EOF if that is all.
func (tr *transport) exchange(requests []netlink.Message) ([]netlink.Message, error) {
	if len(requests) > 0 {
		return nil, tr.send(requests)
	}
	if tr.conn == nil {
		return nil, io.EOF
	}
	// The kernel has answered before the send returned.
	if ready, err := tr.ready(); err != nil || !ready {
		if !tr.lasting {
			tr.close()
		}
		if err == nil {
			err = io.EOF
		}
		return nil, err
	}
	messages, err := tr.conn.Receive()
	for i := range messages {
		messages[i].Header.Flags &^= netlink.Multi // these are all
		messages[i].Header.PID = 0                 // the socket's, of which package nftables does not know
	}
	return messages, err
}

func (tr *transport) send(requests []netlink.Message) error {
	if tr.conn == nil {
		conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: tr.ns.Fd()})
		if err != nil {
			return err
		}
		tr.conn = conn
	}
	size := 0
	for i := range requests {
		requests[i].Header.PID = 0 // the socket's
		size += len(requests[i].Data) + unix.NLMSG_HDRLEN + unix.NLMSG_ALIGNTO
	}
	if err := tr.conn.SetWriteBuffer(max(size, 1<<18)); err != nil {
		return err
	}
	if err := tr.conn.SetReadBuffer(max(1024*len(requests), 1<<18)); err != nil {
		return err
	}
	_, err := tr.conn.SendMessages(requests)
	return err
}

// ready says whether there is something to receive.
func (tr *transport) ready() (ready bool, err error) {
	raw, err := tr.conn.SyscallConn()
	if err != nil {
		return false, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			var n int
			if n, err = unix.Poll(fds, 0); err != unix.EINTR { //nolint:errorlint // a system call's
				ready = n > 0
				return
			}
		}
	})
	if controlErr != nil {
		return false, controlErr
	}
	return ready, err
}

func (tr *transport) close() {
	if tr.conn != nil {
		_ = tr.conn.Close()
		tr.conn = nil
	}
}
