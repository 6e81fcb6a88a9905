// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nfnetlink_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/nfnetlink/nfnetlinktest"
)

// entry is an object that a dump lists.
func entry(flags uint16, name string) []byte {
	b := nfnetlink.Request(1, flags, 2)
	b.Str(1, name)
	b.End()
	return b.Buf
}

// list asks for a dump until it is not interrupted, and returns what was listed last, and in how many dumps.
func list(t *testing.T, answer func(dump int) nfnetlinktest.Answer) (names []string, dumps int, err error) {
	t.Helper()
	_, s := nfnetlinktest.New(func(nfnetlink.Message) nfnetlinktest.Answer {
		dumps++
		return answer(dumps)
	})
	err = nfnetlink.Again(func() error {
		names = nil
		return s.Ask(t.Context(), nfnetlink.Request(2, unix.NLM_F_DUMP, 0), func(m nfnetlink.Message) {
			for _, v := range m.Attributes() {
				names = append(names, v.Text())
			}
		})
	})
	return names, dumps, err
}

// TestInterruptedDumps: a dump that the kernel says is not of one state is made again, some times.
func TestInterruptedDumps(t *testing.T) {
	whole := nfnetlinktest.Answer{Entries: [][]byte{entry(0, "a"), entry(0, "b")}}
	for name, row := range map[string]struct {
		interrupted nfnetlinktest.Answer
		want        error
	}{
		"in an entry":     {nfnetlinktest.Answer{Entries: [][]byte{entry(unix.NLM_F_DUMP_INTR, "a")}}, nfnetlink.ErrInterrupted},
		"at its end":      {nfnetlinktest.Answer{Entries: [][]byte{entry(0, "a")}, Interrupted: true}, nfnetlink.ErrInterrupted},
		"without a flag":  {nfnetlinktest.Answer{Entries: [][]byte{entry(0, "a")}, Err: unix.EINTR}, nfnetlink.ErrCutShort},
		"before it":       {nfnetlinktest.Answer{Err: unix.EINTR}, nfnetlink.ErrCutShort},
		"both in one":     {nfnetlinktest.Answer{Entries: [][]byte{entry(unix.NLM_F_DUMP_INTR, "a")}, Err: unix.EINTR}, nfnetlink.ErrCutShort},
		"both at the end": {nfnetlinktest.Answer{Entries: [][]byte{entry(0, "a")}, Interrupted: true, Err: unix.EINTR}, nfnetlink.ErrCutShort},
	} {
		for _, times := range []int{0, 1, nfnetlink.Tries - 1, nfnetlink.Tries} {
			t.Run(fmt.Sprintf("%s %d times", name, times), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					start := time.Now()
					names, dumps, err := list(t, func(dump int) nfnetlinktest.Answer {
						if dump <= times {
							return row.interrupted
						}
						return whole
					})
					if times == nfnetlink.Tries {
						if !errors.Is(err, row.want) || dumps != nfnetlink.Tries {
							t.Errorf("error %v after %d dumps, want %v after %d", err, dumps, row.want, nfnetlink.Tries)
						}
						return
					}
					if err != nil || dumps != times+1 || !slices.Equal(names, []string{"a", "b"}) {
						t.Errorf("listed %q in %d dumps (%v)", names, dumps, err)
					}
					if took := time.Since(start); took > time.Second {
						t.Errorf("it took %s", took)
					}
				})
			})
		}
	}
}

// TestDumpFails: an error at a dump's end is the dump's.
func TestDumpFails(t *testing.T) {
	names, dumps, err := list(t, func(int) nfnetlinktest.Answer {
		return nfnetlinktest.Answer{Entries: [][]byte{entry(0, "a")}, Err: unix.ENOENT}
	})
	if !errors.Is(err, unix.ENOENT) || dumps != 1 || len(names) != 1 {
		t.Errorf("listed %q in %d dumps: %v, want ENOENT", names, dumps, err)
	}
}

// TestRefusedByInterruption: only a dump is to be made again after EINTR. Another request was refused.
func TestRefusedByInterruption(t *testing.T) {
	_, s := nfnetlinktest.New(func(m nfnetlink.Message) nfnetlinktest.Answer { return nfnetlinktest.Answer{Err: unix.EINTR} })
	var requests []byte
	for _, flags := range []uint16{unix.NLM_F_ACK, unix.NLM_F_DUMP, unix.NLM_F_ACK} {
		r := nfnetlink.Request(1, flags, 2)
		r.End()
		requests = append(requests, r.Buf...)
	}
	got := [3]error{}
	err := s.Exchange(t.Context(), requests, nil, func(i int, err error) { got[i] = err })
	if !errors.Is(err, nfnetlink.ErrCutShort) || got[1] != nil || !errors.Is(got[0], unix.EINTR) || !errors.Is(got[2], unix.EINTR) {
		t.Errorf("the requests ended with %v, all of them with %v; want EINTR, but for the dump", got, err)
	}
}

// TestGrowingBuffer: a message that does not fit is lost, and the reading made again with more room.
func TestGrowingBuffer(t *testing.T) {
	long := nfnetlink.Request(1, 0, 2)
	for range 3 {
		long.Bytes(1, make([]byte, 60000)...)
	}
	long.End()
	names, dumps, err := list(t, func(int) nfnetlinktest.Answer {
		return nfnetlinktest.Answer{Entries: [][]byte{entry(0, "a"), long.Buf, entry(0, "b")}}
	})
	if err != nil || dumps != 2 || len(names) != 5 {
		t.Errorf("%d values in %d dumps (%v), want 5 in 2", len(names), dumps, err)
	}
}

// TestLostAnswers: answers to a batch that did not fit are told of, beside those that did.
func TestLostAnswers(t *testing.T) {
	k, s := nfnetlinktest.New(func(nfnetlink.Message) nfnetlinktest.Answer { return nfnetlinktest.Answer{Err: unix.EEXIST} })
	k.Room(2)
	var batch []byte
	for range 5 {
		batch = append(batch, entry(0, "a")...)
	}
	var got []int
	_, lost, err := s.Transact(batch, func(i int, e *nfnetlink.Error) { got = append(got, i) })
	if err != nil || !lost || !slices.Equal(got, []int{0, 1}) {
		t.Errorf("refused %v, lost: %t, error %v; want the first two, and that others were lost", got, lost, err)
	}
}

// TestLostAnswer: a wait for an answer has an end.
func TestLostAnswer(t *testing.T) {
	_, s := nfnetlinktest.New(func(nfnetlink.Message) nfnetlinktest.Answer { return nfnetlinktest.Answer{} })
	err := s.Ask(t.Context(), nfnetlink.Request(1, 0, 2), nil) // which does not ask for one
	if !errors.Is(err, unix.EAGAIN) || !strings.Contains(err.Error(), "no answer in ") {
		t.Errorf("error %v, want that there was no answer", err)
	}
}

// TestExtendedAcknowledgements: an error has the kernel's words and the place, or what is there of them.
func TestExtendedAcknowledgements(t *testing.T) {
	for _, want := range []nfnetlink.Error{
		{Errno: unix.EINVAL},
		{Errno: unix.EINVAL, Message: "no such thing"},
		{Errno: unix.EINVAL, Message: "no such thing", Offset: 24},
	} {
		for what, answer := range map[string]nfnetlinktest.Answer{
			"a request":    {Err: &want},
			"a dump":       {Err: &want},
			"a dump's end": {Err: &want, Entries: [][]byte{entry(0, "a")}},
		} {
			flags := uint16(unix.NLM_F_DUMP)
			if what == "a request" {
				flags = unix.NLM_F_ACK
			}
			_, s := nfnetlinktest.New(func(nfnetlink.Message) nfnetlinktest.Answer { return answer })
			err := s.Ask(t.Context(), nfnetlink.Request(1, flags, 2), func(nfnetlink.Message) {})
			got := (*nfnetlink.Error)(nil)
			if !errors.As(err, &got) || *got != want || !errors.Is(err, unix.EINVAL) {
				t.Errorf("%s: error %#v, want %#v", what, err, want)
			}
			if text := err.Error(); !strings.HasPrefix(text, "invalid argument") || !strings.HasSuffix(text, want.Message) {
				t.Errorf("%s: text %q", what, text)
			}
		}
	}
	for _, offset := range [][]byte{nil, {1}, {1, 2}, {1, 2, 3}} { // shorter than it should be
		b := nfnetlink.Builder{Buf: binary.NativeEndian.AppendUint32(nil, uint32(0xffffffff))}
		b.Buf = append(b.Buf, make([]byte, unix.NLMSG_HDRLEN)...)
		b.Bytes(unix.NLMSGERR_ATTR_OFFS, offset...)
		b.Bytes(unix.NLMSGERR_ATTR_MSG)
		m := nfnetlink.Message{Flags: unix.NLM_F_ACK_TLVS, Data: b.Buf}
		if got := m.Err(); got == nil || *got != (nfnetlink.Error{Errno: 1}) {
			t.Errorf("offset % x: %#v", offset, got)
		}
	}
}

// FuzzMessages: any bytes are messages, or cut off.
func FuzzMessages(f *testing.F) {
	f.Add(entry(0, "a"))
	f.Add(append(entry(0, "a"), entry(unix.NLM_F_ACK_TLVS, "bc")...))
	f.Add([]byte{16, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		err := nfnetlink.EachMessage(b, func(m nfnetlink.Message) {
			total += unix.NLMSG_HDRLEN + nfnetlink.Align(len(m.Data))
			if e := m.Err(); e != nil {
				_ = e.Error()
			}
			_ = m.Family()
			for _, v := range m.Attributes() {
				_, _, _, _, _ = v.Text(), v.U16(), v.U32(), v.U64(), v.NativeU32()
				for range v.Attributes() {
				}
			}
		})
		if err == nil && total+unix.NLMSG_HDRLEN <= len(b) {
			t.Errorf("%d of %d bytes were read", total, len(b))
		}
	})
}
