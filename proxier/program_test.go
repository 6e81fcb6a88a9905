// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// workbench is a programmer at a kernel in memory.
type workbench struct {
	*programmer
	t      *testing.T
	kernel *rulestest.Kernel
}

// newWorkbench returns one that has adopted the kernel, with some owners.
func newWorkbench(t *testing.T, builds ...rules.Owned) *workbench {
	t.Helper()
	k := &rulestest.Kernel{}
	w := &workbench{newProgrammer(k, rules.Config{}.WithDefaults()), t, k}
	if _, err := w.adopt(here, true, ownersOf(builds), buildOf(builds)); err != nil {
		t.Fatal(err)
	}
	k.Applied()
	return w
}

var here = rules.Node{Name: "here"}

// owned returns the objects of service port default/NAME at 10.96.0.N:80, with endpoints 10.0.0.E:8080.
func owned(name string, n byte, endpoints ...byte) rules.Owned {
	o := rules.Owner{ServicePortName: rules.ServicePortName{Namespace: "default", Name: name}}
	sp := rules.ServicePort{Name: o.ServicePortName, Protocol: rules.TCP, ClusterIP: netip.AddrFrom4([4]byte{10, 96, 0, n}), Port: 80}
	var list []rules.Endpoint
	for _, e := range endpoints {
		list = append(list, rules.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, e}), 8080), Ready: true, Serving: true})
	}
	return rules.Owned{Owner: o, Objects: rules.Build(sp, list, rules.Config{}.WithDefaults(), here)}
}

func ownersOf(builds []rules.Owned) (out []rules.Owner) {
	for _, b := range builds {
		out = append(out, b.Owner)
	}
	return out
}

func buildOf(builds []rules.Owned) func([]rules.Owner) []rules.Owned {
	return func(owners []rules.Owner) (out []rules.Owned) {
		for _, b := range builds {
			if slices.Contains(owners, b.Owner) {
				out = append(out, b)
			}
		}
		return out
	}
}

// expect checks that the kernel holds what desired says, or that it does not.
func (w *workbench) expect(equal bool) {
	w.t.Helper()
	have := w.kernel.State()
	have.Name = w.config.Table
	tx := rules.Diff(have, w.desired.State())
	if got := tx.Len() == 0; got != equal {
		w.t.Errorf("the kernel is equal to desired: %v, want %v; it lacks %s", got, equal, describe(tx))
	}
	if got := w.unequal == nil; got != equal {
		w.t.Errorf("unequal is %v, and the kernel equal: %v", w.unequal, equal)
	}
}

// told sums up an outcome: names of owners that were programmed, refusals, and how many transactions were sent.
func told(o outcome) string {
	var out []string
	for i := range o.after {
		out = append(out, fmt.Sprintf("%s %d->%d", o.after[i].Owner.Name, len(o.before[i].Objects.Sets), len(o.after[i].Objects.Sets)))
	}
	for _, r := range o.refusals {
		switch {
		case r.owner.Name != "":
			out = append(out, r.owner.Name+" aside")
		case r.loading:
			out = append(out, fmt.Sprintf("loading %d refused", r.servicePorts))
		default:
			out = append(out, fmt.Sprintf("%d refused", r.servicePorts))
		}
	}
	return fmt.Sprintf("%s; %d sent", strings.Join(out, ", "), len(o.transactions))
}

// chain says that an operation is about the chain of default/NAME.
func chain(name string) func(rules.Op) bool {
	return func(o rules.Op) bool { return o.Chain.Name == "service/default/"+name }
}

// TestCommit: what is programmed comes out with what was there before; what is refused is set aside, and the rest programmed.
func TestCommit(t *testing.T) {
	w := newWorkbench(t, owned("web", 1, 1, 2))
	step := func(what, want string, fails bool, builds ...rules.Owned) {
		t.Helper()
		out, err := w.commit(here, builds, nil)
		if got := told(out); got != want || (err != nil) != fails {
			t.Errorf("%s: %q, %v; want %q, an error: %v", what, got, err, want, fails)
		}
		w.expect(true)
	}
	n := len(owned("web", 1, 1, 2).Objects.Sets)
	none := len(owned("web", 1).Objects.Sets)
	step("nothing", "; 0 sent", false)
	step("endpoints go", fmt.Sprintf("web %d->%d; 1 sent", n, none), false, owned("web", 1))
	step("it goes", fmt.Sprintf("web %d->0; 1 sent", none), false, rules.Owned{Owner: owned("web", 1).Owner})
	w.kernel.Refuse(chain("bad"))
	bad := owned("bad", 2, 1, 2)
	step("one is refused", fmt.Sprintf("web 0->%d, 2 refused, bad aside; 2 sent", n), false, owned("web", 1, 1, 2), bad)
	step("it is refused alone", "1 refused, bad aside; 1 sent", false, bad)
	w.kernel.Refuse(nil)
	step("it is taken", fmt.Sprintf("bad 0->%d; 1 sent", n), false, bad)
	if len(w.aside.failing) > 0 {
		t.Errorf("set aside although it is programmed: %v", w.aside.failing)
	}
	w.kernel.FailApplies(&rules.Refusal{Untouched: true, Err: syscall.ENOMEM})
	step("the kernel has no memory", "1 refused; 1 sent", true, owned("web", 1))
	w.kernel.FailApplies(nil)
	step("it has", fmt.Sprintf("web %d->%d; 1 sent", n, none), false, owned("web", 1))
}

// TestCommitNameless: where the kernel does not say what it refuses, the owner because of whom it does is found.
func TestCommitNameless(t *testing.T) {
	w := newWorkbench(t)
	w.programmer.kernel = silentKernel{w.kernel}
	w.kernel.Refuse(chain("s5"))
	var builds []rules.Owned
	for i := range byte(8) {
		builds = append(builds, owned(fmt.Sprint("s", i), 1+i, 1, 2))
	}
	out, err := w.commit(here, builds, nil)
	if err != nil || len(out.after) != 7 || out.setAside() != 1 || w.aside.failing[builds[5].Owner] == nil {
		t.Errorf("%s, %v; want all but s5", told(out), err)
	}
	w.expect(true)
}

// silentKernel does not say what it refuses.
type silentKernel struct{ *rulestest.Kernel }

func (k silentKernel) Apply(tx rules.Tx) error {
	if err := k.Kernel.Apply(tx); err != nil {
		return &rules.Refusal{Untouched: true, Err: syscall.EINVAL}
	}
	return nil
}

// TestCommitNode: what is refused of the node holds up no owners, and an audit tries it again.
func TestCommitNode(t *testing.T) {
	w := newWorkbench(t)
	w.kernel.Refuse(func(o rules.Op) bool { return o.Set.Kind == rules.ServiceCIDRs && len(o.Elements) > 0 })
	node := here
	node.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}
	out, err := w.commit(node, []rules.Owned{owned("web", 1, 1, 2)}, nil)
	if err != nil || !out.node || out.nodeErr == nil || !out.nodeBefore.Equal(&here) || len(out.after) != 1 {
		t.Errorf("%+v, %v; want the node refused and web programmed", out, err)
	}
	w.expect(false)
	if _, err := w.audit(nil); err == nil {
		t.Error("an audit that the kernel refuses is no error")
	}
	w.kernel.Refuse(nil)
	if out, err := w.audit(nil); err != nil || out.written.Len() != 1 {
		t.Errorf("%d operations, %v; want 1", out.written.Len(), err)
	}
	w.expect(true)
	if out, _ := w.commit(node, nil, nil); out.node || len(out.transactions) > 0 {
		t.Errorf("the same node is a change: %+v", out)
	}
}

// TestAdopt: an empty kernel is filled, one that an earlier run has filled gets only what differs. What it refuses is set aside.
func TestAdopt(t *testing.T) {
	builds := []rules.Owned{owned("web", 1, 1, 2), owned("bad", 2, 1, 2)}
	w := newWorkbench(t, builds[0])
	next := &workbench{newProgrammer(w.kernel, w.config), t, w.kernel}
	out, err := next.adopt(here, false, ownersOf(builds[:1]), buildOf(builds))
	if got := told(out); err != nil || got != "; 0 sent" || !next.adopted {
		t.Errorf("the same again: %q, %v; want nothing sent", got, err)
	}
	for _, filled := range []bool{false, true} {
		kernel := &rulestest.Kernel{}
		if filled {
			kernel = w.kernel
		}
		kernel.Refuse(chain("bad"))
		next = &workbench{newProgrammer(kernel, w.config), t, kernel}
		out, err = next.adopt(here, !filled, ownersOf(builds), buildOf(builds))
		loading := slices.ContainsFunc(out.refusals, func(r refusal) bool { return r.loading })
		if err != nil || out.setAside() != 1 || loading == filled || !next.adopted {
			t.Errorf("filled %v: %q, %v; want bad aside", filled, told(out), err)
		}
		next.expect(true)
	}
	w.kernel.FailReads(errors.New("no netlink"))
	next = &workbench{newProgrammer(w.kernel, w.config), t, w.kernel}
	if out, err = next.adopt(here, false, ownersOf(builds), buildOf(builds)); err == nil || next.adopted {
		t.Errorf("the kernel cannot be read: %q, adopted %v", told(out), next.adopted)
	}
}

// TestAudit: what others have changed is repaired, and the outcome says by what.
func TestAudit(t *testing.T) {
	w := newWorkbench(t, owned("web", 1, 1, 2), owned("other", 2, 1))
	w.kernel.Tamper(func(s *rules.State) { delete(s.Tables[rules.IPv4].Chains, "services") })
	things := []rules.Thing{{Kind: rules.ThingChain, Family: rules.IPv4, Name: "services"}}
	out, err := w.audit(things)
	if err != nil || out.written.Len() != 1 {
		t.Errorf("repaired by %s, %v; want the chain", describe(out.written), err)
	}
	w.expect(true)
	if out, err := w.audit(nil); err != nil || out.written.Len() != 0 {
		t.Errorf("repaired by %s, %v; want nothing", describe(out.written), err)
	}
}

// TestAside: owners that were set aside come a few at a time and with pauses, when their time has come or they have changed; one
// that goes comes at once.
func TestAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAside()
		var all []rules.Owner
		changed := map[rules.Owner]bool{} // true: gone
		for i := range byte(25) {
			o := owned(fmt.Sprintf("s%02d", i), 1+i).Owner
			all = append(all, o)
			if wait := a.put(o); wait != firstWait {
				t.Fatalf("the first wait is %s, want %s", wait, firstWait)
			}
		}
		if good, again := a.choose(maps.All(changed)); len(good)+len(again) > 0 {
			t.Errorf("chosen before their time: %v, %v", good, again)
		}
		fresh := owned("fresh", 1).Owner
		changed[fresh], changed[all[7]], changed[all[8]] = false, false, true
		good, again := a.choose(maps.All(changed))
		slices.SortFunc(good, rules.Owner.Compare)
		if !slices.Equal(good, []rules.Owner{fresh, all[8]}) || !slices.Equal(again, all[7:8]) {
			t.Errorf("chosen: %v and again %v; want the new one and the one that goes, and again the one that has changed", good, again)
		}
		a.forget([]rules.Owned{{Owner: all[7]}, {Owner: all[8]}})
		clear(changed)
		seen := 0
		for batches := 0; len(a.failing) > 0; batches++ {
			wait, ok := a.nextRetry()
			if !ok || wait > retryPause {
				t.Fatalf("the next try is in %s, %v", wait, ok)
			}
			time.Sleep(wait)
			_, again := a.choose(maps.All(changed))
			if len(again) > retryBatch || len(again) == 0 {
				t.Fatalf("%d at once", len(again))
			}
			for _, o := range again {
				a.forget([]rules.Owned{{Owner: o}})
			}
			seen += len(again)
		}
		if _, ok := a.nextRetry(); ok || seen != 23 {
			t.Errorf("%d came again, want 23; one more is planned: %v", seen, ok)
		}
	})
}

// TestFree: what an earlier run has left at an API server's address goes, once; ClusterIPs stay.
func TestFree(t *testing.T) {
	w := newWorkbench(t, owned("web", 1, 1, 2))
	sp := rules.ServicePort{Name: rules.ServicePortName{Namespace: "default", Name: "lb"}, Protocol: rules.TCP, Port: 6443,
		ClusterIP: netip.MustParseAddr("10.96.0.9"), LoadBalancerIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	lb := rules.Owned{Owner: rules.Owner{ServicePortName: sp.Name}, Objects: rules.Build(sp, nil, w.config, here)}
	if _, err := w.commit(here, []rules.Owned{lb}, nil); err != nil {
		t.Fatal(err)
	}
	next := newProgrammer(w.kernel, w.config)
	servers := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:6443"), netip.MustParseAddrPort("10.96.0.1:80")}
	out, err := next.free(next.notFreed(slices.Clone(servers)), nil)
	if err != nil || out.written.Len() != 1 {
		t.Errorf("deleted by %s, %v; want the load balancer's address", describe(out.written), err)
	}
	if left := next.notFreed(slices.Clone(servers)); len(left) > 0 {
		t.Errorf("not freed: %v", left)
	}
}
