// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/nfnetlink/nfnetlinktest"
	"github.com/nftproxy/nftproxy/rules"
)

// failing is a transport some of whose waits and receipts fail.
type failing struct {
	nfnetlink.Transport
	waits, receipts int          // so many more
	failed          atomic.Int32 // so many did
}

func (f *failing) fail(left *int, err error) error {
	if *left == 0 {
		return nil
	}
	*left--
	f.failed.Add(1)
	return err
}

func (f *failing) Wait(ctx context.Context, d time.Duration) (bool, error) {
	if err := f.fail(&f.waits, unix.EMFILE); err != nil {
		return false, err
	}
	return f.Transport.Wait(ctx, d)
}

func (f *failing) Receive(buf []byte, wait bool) (int, error) {
	if err := f.fail(&f.receipts, unix.ENOMEM); err != nil {
		return 0, err
	}
	return f.Transport.Receive(buf, wait)
}

// chainEvent is an event about a chain of ours, or the end of a commit.
func chainEvent(name string) []byte {
	b := nfnetlink.Request(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWCHAIN, 0, unix.NFPROTO_IPV4)
	b.Str(unix.NFTA_CHAIN_TABLE, rules.DefaultTable)
	b.Str(unix.NFTA_CHAIN_NAME, name)
	b.End()
	return b.Buf
}

func commitEvent() []byte {
	b := nfnetlink.Request(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN, 0, unix.NFPROTO_UNSPEC)
	b.U32(unix.NFTA_GEN_ID, 7)
	b.End()
	return b.Buf
}

// watchDouble returns a watch over a double, as a member of the group of events.
func watchDouble(t *testing.T) (*Watch, *nfnetlinktest.Kernel, *failing) {
	t.Helper()
	double, _ := nfnetlinktest.New(nil)
	f := &failing{Transport: double}
	if err := f.Join(nftablesGroup); err != nil {
		t.Fatal(err)
	}
	return &Watch{sock: nfnetlink.NewSocket(f), table: rules.DefaultTable, changed: make(chan struct{}, 1)}, double, f
}

// TestWatchFails: while a watch cannot wait or read, anything may have changed. It goes on.
func TestWatchFails(t *testing.T) {
	for _, tt := range []struct{ waits, receipts int }{{3, 0}, {0, 3}, {2, 1}} {
		t.Run(fmt.Sprintf("%d waits, %d receipts", tt.waits, tt.receipts), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, double, f := watchDouble(t)
				f.waits, f.receipts = tt.waits, tt.receipts
				ctx, stop := context.WithCancel(t.Context())
				w.stop = stop
				defer closeWatch(t, w)
				w.done.Go(func() { w.run(ctx) })
				double.Event(nftablesGroup, chainEvent("theirs"))
				double.Event(nftablesGroup, commitEvent())
				for failed := 1; failed <= tt.waits+tt.receipts; failed++ {
					wantChanged(t, w, "an error")
					if touched := w.Touched(); int(f.failed.Load()) != failed || touched.Things != nil {
						t.Errorf("after %d errors, want %d, %+v is touched, want everything", f.failed.Load(), failed, touched)
					}
				}
				wantChanged(t, w, "an event afterwards")
				if touched := w.Touched(); len(touched.Things) != 1 || touched.Things[0].Name != "theirs" {
					t.Errorf("%+v is touched, want a chain", touched)
				}
			})
		})
	}
}

// TestWatchFailsAndEnds: a watch that only fails can be closed at once.
func TestWatchFailsAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, f := watchDouble(t)
		f.waits = -1
		ctx, stop := context.WithCancel(t.Context())
		w.stop = stop
		w.done.Go(func() { w.run(ctx) })
		synctest.Wait()
		start := time.Now()
		closeWatch(t, w)
		if took := time.Since(start); took > 0 || f.failed.Load() != 1 {
			t.Errorf("it took %s, and failed %d times, want once", took, f.failed.Load())
		}
	})
}

// TestWatchTakes many datagrams at once, but not all there may be.
func TestWatchTakes(t *testing.T) {
	for _, tt := range []struct{ commits, takes int }{{0, 1}, {1, 1}, {20, 1}, {mostDatagrams / 2, 1}, {mostDatagrams/2 + 1, 2}, {mostDatagrams, 2}} {
		w, double, _ := watchDouble(t)
		for i := range tt.commits {
			double.Event(nftablesGroup, chainEvent(fmt.Sprintf("theirs-%d", i)))
			double.Event(nftablesGroup, commitEvent())
		}
		takes := 0
		for ready := true; ready; takes++ {
			if err := w.take(); err != nil {
				t.Fatal(err)
			}
			var err error
			if ready, err = w.sock.Wait(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(w.Touched().Things); takes != tt.takes || n != tt.commits || (len(w.changed) > 0) != (tt.commits > 0) {
			t.Errorf("%d commits were taken in %d parts, want %d; %d chains are touched", tt.commits, takes, tt.takes, n)
		}
	}
}
