// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// The ports of every backend.
const (
	askPort    = 8080 // TCP: says the backend's address, and closes
	streamPort = 8081 // TCP: takes what comes
	packetPort = 8082 // UDP: takes what comes
)

// backends are the servers of all pods of the other node.
type backends struct {
	bytes, packets atomic.Int64 // that the stream and the packet port took so far

	running sync.WaitGroup
	open    []io.Closer
}

// serve opens the ports of all pods. Only the first pod takes streams and packets.
func serve(ns *netns.NS, hosts []netns.Host) (*backends, error) {
	b := &backends{}
	err := ns.Do(func() error {
		for _, h := range hosts {
			if err := b.listen(h.V4, askPort, func(c net.Conn) { _, _ = c.Write(h.V4.AsSlice()) }); err != nil {
				return err
			}
		}
		if err := b.listen(hosts[0].V4, streamPort, func(c net.Conn) { _, _ = io.Copy(counter{&b.bytes}, c) }); err != nil {
			return err
		}
		return b.receive(hosts[0].V4, packetPort)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serve: %w", err), b.close())
	}
	return b, nil
}

func (b *backends) listen(at netip.Addr, port uint16, answer func(net.Conn)) error {
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, port)))
	if err != nil {
		return err
	}
	b.open = append(b.open, l)
	b.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if port == askPort {
				answer(conn) // it fits into the socket's buffer
				_ = conn.Close()
				continue
			}
			go func() {
				answer(conn)
				_ = conn.Close()
			}()
		}
	})
	return nil
}

func (b *backends) receive(at netip.Addr, port uint16) error {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, port)))
	if err != nil {
		return err
	}
	b.open = append(b.open, conn)
	b.running.Go(func() {
		buffer := make([]byte, 2048)
		for {
			if _, _, err := conn.ReadFromUDPAddrPort(buffer); err != nil {
				return
			}
			b.packets.Add(1)
		}
	})
	return nil
}

func (b *backends) close() error {
	var errs []error
	for _, c := range b.open {
		errs = append(errs, c.Close())
	}
	b.running.Wait()
	return errors.Join(errs...)
}

// counter counts what is written to it.
type counter struct{ *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.Add(int64(len(p)))
	return len(p), nil
}
