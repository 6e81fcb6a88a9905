// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nfnetlink_test

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
)

// open opens a socket to the kernel, which nobody sends anything to.
func open(t *testing.T) *nfnetlink.Socket {
	t.Helper()
	s, err := nfnetlink.Open(nfnetlink.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeSocket(t *testing.T, s *nfnetlink.Socket) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestWaitWithoutFiles: a wait needs no file of its own.
func TestWaitWithoutFiles(t *testing.T) {
	s := open(t)
	defer closeSocket(t, s)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 3 {
		if ready, err := s.Wait(ctx, -1); ready || err != nil {
			t.Errorf("it ended with %v, ready: %t", err, ready)
		}
	}
}

// TestWaits: of several waits for a socket, each ends with its own context.
func TestWaits(t *testing.T) {
	s := open(t)
	defer closeSocket(t, s)
	type wait struct {
		cancel context.CancelFunc
		ended  chan error
	}
	var waits []wait
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		w := wait{cancel, make(chan error, 1)}
		waits = append(waits, w)
		go func() {
			_, err := s.Wait(ctx, -1)
			if err == nil && ctx.Err() == nil {
				t.Error("a wait ended too early")
			}
			w.ended <- err
		}()
	}
	for _, w := range waits {
		w.cancel()
		if err := <-w.ended; err != nil {
			t.Error(err)
		}
	}
	if ready, err := s.Wait(t.Context(), 0); ready || err != nil {
		t.Errorf("a wait afterwards: %v, ready: %t", err, ready)
	}
}
