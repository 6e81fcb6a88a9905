// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/e2e/faults"
	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// netlinkFault is what may happen to a call of a socket's transport. It gets the call and its outcome.
type netlinkFault struct {
	name string
	// send replaces a send; nil: it is carried out.
	send func(t nfnetlink.Transport, datagram []byte) error
	// receive replaces a receipt; nil: it is carried out.
	receive func(t nfnetlink.Transport, buf []byte, wait bool) (int, error)
}

// sendFails and receiptFails are faults after which nothing was carried out.
func sendFails(errno unix.Errno) netlinkFault {
	return netlinkFault{name: "send " + unix.ErrnoName(errno), send: func(nfnetlink.Transport, []byte) error { return errno }}
}

func receiptFails(errno unix.Errno) netlinkFault {
	return netlinkFault{name: "receive " + unix.ErrnoName(errno), receive: func(nfnetlink.Transport, []byte, bool) (int, error) { return 0, errno }}
}

// mangled changes a datagram that was received.
func mangled(name string, change func(datagram []byte) []byte) netlinkFault {
	return netlinkFault{name: name, receive: func(t nfnetlink.Transport, buf []byte, wait bool) (int, error) {
		n, err := t.Receive(buf, wait)
		if err != nil || n > len(buf) {
			return n, err
		}
		return copy(buf, change(append([]byte(nil), buf[:n]...))), nil
	}}
}

// eachMessage changes the messages of a datagram, one by one. It is told the type of each.
func eachMessage(datagram []byte, change func(typ uint16, message []byte) []byte) (out []byte) {
	for b := datagram; len(b) >= unix.NLMSG_HDRLEN; {
		length := int(binary.NativeEndian.Uint32(b))
		m := change(binary.NativeEndian.Uint16(b[4:]), append([]byte(nil), b[:length]...))
		if len(m) > 0 {
			binary.NativeEndian.PutUint32(m, uint32(len(m)))
			out = append(out, m...)
			out = append(out, make([]byte, nfnetlink.Align(len(m))-len(m))...)
		}
		b = b[min(nfnetlink.Align(length), len(b)):]
	}
	return out
}

// netlinkFaults are all kinds.
func netlinkFaults() []netlinkFault {
	list := []netlinkFault{
		{name: "an answer is lost", receive: func(t nfnetlink.Transport, buf []byte, wait bool) (int, error) {
			if _, err := t.Receive(buf, wait); err != nil {
				return 0, err
			}
			return 0, unix.ENOBUFS
		}},
		{name: "an answer is lost, and nobody tells", receive: func(t nfnetlink.Transport, buf []byte, wait bool) (int, error) {
			if _, err := t.Receive(buf, wait); err != nil {
				return 0, err
			}
			return 0, unix.EAGAIN
		}},
		{name: "sent, and ENOBUFS", send: func(t nfnetlink.Transport, datagram []byte) error { return errors.Join(t.Send(datagram), unix.ENOBUFS) }},
		mangled("NLM_F_DUMP_INTR", func(d []byte) []byte {
			return eachMessage(d, func(_ uint16, m []byte) []byte {
				if flags := binary.NativeEndian.Uint16(m[6:]); flags&unix.NLM_F_MULTI != 0 {
					binary.NativeEndian.PutUint16(m[6:], flags|unix.NLM_F_DUMP_INTR)
				}
				return m
			})
		}),
		mangled("a dump ends with EINTR", func(d []byte) []byte {
			return eachMessage(d, func(typ uint16, m []byte) []byte {
				if typ == unix.NLMSG_DONE {
					e := -int32(unix.EINTR)
					binary.NativeEndian.PutUint32(m[unix.NLMSG_HDRLEN:], uint32(e))
				}
				return m
			})
		}),
		mangled("a datagram without its end", func(d []byte) []byte { return d[:len(d)-4] }),
		mangled("an unknown attribute", func(d []byte) []byte {
			return eachMessage(d, func(typ uint16, m []byte) []byte {
				if typ>>8 != unix.NFNL_SUBSYS_NFTABLES {
					return m
				}
				m = append(m, make([]byte, nfnetlink.Align(len(m))-len(m))...)
				m = binary.NativeEndian.AppendUint16(m, 8)
				m = binary.NativeEndian.AppendUint16(m, 1000)
				return append(m, 1, 2, 3, 4)
			})
		}),
	}
	for _, errno := range []unix.Errno{unix.ENOBUFS, unix.EINTR, unix.EAGAIN, unix.EBUSY, unix.ENOMEM, unix.EPERM} {
		list = append(list, sendFails(errno), receiptFails(errno))
	}
	return list
}

// faultyTransport injects a fault into some of its calls.
type faultyTransport struct {
	nfnetlink.Transport
	mu    sync.Mutex
	fault func() *netlinkFault // of this call; nil: none
}

func (f *faultyTransport) next() *netlinkFault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault == nil {
		return nil
	}
	return f.fault()
}

func (f *faultyTransport) set(fault func() *netlinkFault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// Send is Transport's.
func (f *faultyTransport) Send(datagram []byte) error {
	if n := f.next(); n != nil && n.send != nil {
		return n.send(f.Transport, datagram)
	}
	return f.Transport.Send(datagram)
}

// Receive is Transport's.
func (f *faultyTransport) Receive(buf []byte, wait bool) (int, error) {
	if n := f.next(); n != nil && n.receive != nil {
		return n.receive(f.Transport, buf, wait)
	}
	return f.Transport.Receive(buf, wait)
}

// makeFaulty puts a transport that injects faults below the socket of a Kernel for requests.
func makeFaulty(k *Kernel) *faultyTransport {
	f := &faultyTransport{Transport: k.sock.Transport}
	k.sock.Transport = f
	return f
}

// at injects a fault into the n-th call, and says whether there was one.
func (f *faultyTransport) at(n int, fault *netlinkFault) (happened *bool) {
	happened = new(bool)
	calls := 0
	f.set(func() *netlinkFault {
		calls++
		if calls-1 == n {
			*happened = true
			return fault
		}
		return nil
	})
	return happened
}

// TestFaultyNetlink injects each fault into each call that a reading, a scan and a transaction make: what was read is the whole
// or an error, and what is said of a transaction is true.
func TestFaultyNetlink(t *testing.T) {
	tried := 0
	for _, fault := range netlinkFaults() {
		t.Run(fault.name, func(t *testing.T) {
			h := newHost(t)
			other := open(t, h.ns)
			d := desired(append(services(rules.IPv4, 3, 3), services(rules.IPv6, 1, 3)...)...)
			h.load(t, d.State())
			f := makeFaulty(h.Kernel)
			more := services(rules.IPv4, 4, 3)[3:]
			for what, operation := range map[string]func() error{
				"read": func() error {
					s, err := h.Read(rules.DefaultTable)
					if err == nil {
						wantSame(t, s, d.State())
					}
					return err
				},
				"scan": func() error {
					c := d.Compare(nil)
					err := h.Scan(rules.DefaultTable, nil, c)
					if tx := c.Tx(); err == nil && !c.Whole() && tx.Len() > 0 {
						t.Errorf("scan: %d operations: %s", tx.Len(), summary(tx))
					}
					return err
				},
				"commit": func() error {
					before := d.State()
					tx := d.Update(more)
					err := h.Apply(tx)
					f.set(nil)
					has := other.mustRead(t)
					took, left := same(has, d.State()), same(has, before)
					switch {
					case err == nil && !took:
						t.Error("a transaction that was not carried out counts as one that was")
					case rules.RefusalOf(err).Untouched && !left:
						t.Errorf("a transaction that was carried out counts as one that was not: %v", err)
					case !took && !left:
						t.Error("a transaction was carried out by half")
					}
					back := d.Update([]rules.Owned{{Owner: more[0].Owner}})
					if took {
						h.apply(t, back)
					}
					return err
				},
			} {
				step := faults.Amount(5, 2, 1)
				for n, happened := rand.IntN(step), new(bool); n < step || *happened; n += step {
					happened = f.at(n, &fault)
					_ = operation()
					f.set(nil)
					tried++
					if t.Failed() {
						t.Fatalf("%s, with the fault in call %d", what, n)
					}
					wantSame(t, h.read(t, rules.DefaultTable), d.State())
					if n >= 400 {
						t.Fatal("it does not come to an end")
					}
				}
			}
		})
	}
	faults.Note(t, faults.Result{Row: "netlink", Fault: fmt.Sprintf("%d kinds of faults in each call of a reading, a scan and a transaction", len(netlinkFaults())),
		Note: fmt.Sprintf("%d times", tried)})
}

func same(have, want rules.State) bool {
	tx := rules.Diff(have, want)
	return tx.Len() == 0
}

func (k *Kernel) mustRead(t *testing.T) rules.State {
	t.Helper()
	s, err := k.Read(rules.DefaultTable)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestShortAttributes: a reading of answers whose last attribute is cut short ends, whatever it makes of them.
func TestShortAttributes(t *testing.T) {
	h := newHost(t)
	d := desired(services(rules.IPv4, 3, 3)...)
	h.load(t, d.State())
	f := makeFaulty(h.Kernel)
	for cut := 1; cut <= 64; cut++ {
		fault := mangled("short", func(datagram []byte) []byte {
			return eachMessage(datagram, func(typ uint16, m []byte) []byte {
				if typ>>8 != unix.NFNL_SUBSYS_NFTABLES {
					return m
				}
				return m[:max(len(m)-cut, unix.NLMSG_HDRLEN)]
			})
		})
		f.set(func() *netlinkFault { return &fault })
		_, _ = h.Read(rules.DefaultTable)
		c := d.Compare(nil)
		_ = h.Scan(rules.DefaultTable, nil, c)
		f.set(nil)
		wantSame(t, h.read(t, rules.DefaultTable), d.State())
	}
}

// TestProxierOverFaultyNetlink: Services change while one call in so many fails, each time in another way. In the end the
// kernel holds what it should, without any further change.
func TestProxierOverFaultyNetlink(t *testing.T) {
	for seed := range faults.Amount(uint64(2), 5, 20) {
		h := newHost(t)
		other := open(t, h.ns)
		f := makeFaulty(h.Kernel)
		random, kinds := rand.New(rand.NewPCG(seed, 1)), netlinkFaults()
		injected := 0
		inject := func() *netlinkFault {
			if random.IntN(30) > 0 {
				return nil
			}
			injected++
			return &kinds[random.IntN(len(kinds))]
		}
		p := proxier.New(proxier.Config{Kernel: h.Kernel, Pace: proxier.Pace{AuditPeriod: 500 * time.Millisecond}})
		p.ReplaceNodes(nil)
		p.ReplaceServiceCIDRs(nil)
		p.ReplaceServices(nil)
		p.ReplaceEndpointSlices(nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		<-p.Synced()
		f.set(inject)
		for i := range 300 {
			p.UpdateService(apiService(i % 20))
			p.UpdateEndpointSlice(apiSlice(i%20, i, 1+i%3))
			if i%7 == 0 {
				p.DeleteService("default", apiService((i+3)%20).Name)
			}
			time.Sleep(3 * time.Millisecond)
		}
		f.set(nil)
		for i := range 20 {
			p.UpdateService(apiService(i))
			p.UpdateEndpointSlice(apiSlice(i, i, 2))
		}
		want := wantedOf(20)
		ctxWait, stop := context.WithTimeout(t.Context(), 4*netns.Patience())
		for {
			left := rules.Diff(other.mustRead(t), want)
			if left.Len() == 0 {
				break
			}
			if ctxWait.Err() != nil {
				t.Fatalf("seed %d, after %d faults: %d operations are missing: %s", seed, injected, left.Len(), summary(left))
			}
			time.Sleep(10 * time.Millisecond)
		}
		stop()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		t.Logf("seed %d: %d faults", seed, injected)
	}
}

// apiService is the i-th Service.
func apiService(i int) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("web-%d", i)}}
	s.Spec.ClusterIP = address(rules.IPv4, 96, i).String()
	s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	s.Spec.Ports = []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}}
	return s
}

// apiSlice has so many endpoints of the i-th Service, from one number on.
func apiSlice(i, from, n int) *discoveryv1.EndpointSlice {
	svc := apiService(i)
	es := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: svc.Name, Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080))}}}
	for j := range n {
		es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{Addresses: []string{address(rules.IPv4, 128, 16*from+j).String()}})
	}
	return es
}

// wantedOf is what the kernel is to hold for so many Services with two endpoints each: what a proxier that meets no faults writes.
func wantedOf(n int) rules.State {
	k := &rulestest.Kernel{}
	p := proxier.New(proxier.Config{Kernel: k})
	p.ReplaceNodes(nil)
	p.ReplaceServiceCIDRs(nil)
	var services []*corev1.Service
	var slices []*discoveryv1.EndpointSlice
	for i := range n {
		services, slices = append(services, apiService(i)), append(slices, apiSlice(i, i, 2))
	}
	p.ReplaceServices(services)
	p.ReplaceEndpointSlices(slices)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	<-p.Synced()
	cancel()
	<-ended
	s, err := k.Read(rules.DefaultTable)
	must(err)
	return s
}
