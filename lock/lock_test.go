// SPDX-License-Identifier: Apache-2.0

package lock

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

func TestUnprivileged(t *testing.T) {
	netnstest.AsOrdinaryUser(t, "TestOneAtATime/new", "TestOneAtATime/old", "TestKilledAgainAndAgain/new", "TestKilledAgainAndAgain/old")
}

func newNamespace(t testing.TB) *netns.NS {
	t.Helper()
	ns, err := netns.New(t.Name())
	must(t, err)
	t.Cleanup(func() { must(t, ns.Close()) })
	return ns
}

func look(t testing.TB, ns *netns.NS) (s Status) {
	t.Helper()
	must(t, ns.Do(func() (err error) { s, err = Look("nftproxy"); return err }))
	return s
}

// eventually waits until the status is as it should be.
func eventually(t testing.TB, ns *netns.NS, what string, ok func(Status) bool) Status {
	t.Helper()
	var s Status
	for deadline := time.Now().Add(netns.Patience()); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if s = look(t, ns); ok(s) {
			return s
		}
	}
	t.Fatalf("%s: %+v %+v", what, s, s.Holder)
	return s
}

// kinds are the kernels with owners of tables and those without.
func kinds(t *testing.T, fn func(t *testing.T, kind string)) {
	for _, kind := range []string{"new", "old"} {
		t.Run(kind, func(t *testing.T) { fn(t, kind) })
	}
}

// hasOwners says whether this machine's kernel has owners of tables: before 5.12 the kind new is as the kind old.
func hasOwners(t *testing.T, ns *netns.NS) (has bool) {
	t.Helper()
	must(t, ns.Do(func() error {
		l, err := openLocker("nftproxy_lock_owners")
		if err != nil {
			return err
		}
		defer l.sock.Close() // with it the table goes
		if err = l.take(record{}); err != nil || !l.noOwners {
			has = err == nil
			return err
		}
		gen, err := l.generation()
		if err != nil {
			return err
		}
		return l.remove(gen)
	}))
	return has
}

func TestOneAtATime(t *testing.T) {
	kinds(t, func(t *testing.T, kind string) {
		ns := newNamespace(t)
		if s := look(t, ns); s.Holder != nil {
			t.Errorf("held by %v at the start", s.Holder)
		}
		first := start(t, ns, kind+" v1")
		first.says("held")
		second := start(t, ns, kind+" v2")
		if got, want := second.says("waits"), fmt.Sprintf("waits %d v1 <nil>", first.Process.Pid); got != want {
			t.Errorf("the second says %q, want %q", got, want)
		}
		s := eventually(t, ns, "the second is not shown", func(s Status) bool { return len(s.Waiting) == 1 })
		if h, w := s.Holder, s.Waiting[0]; h.PID != first.Process.Pid || h.Version != "v1" || w.PID != second.Process.Pid || w.Version != "v2" ||
			!w.Ready || time.Since(h.Since) > time.Minute || s.Doubt != nil {
			t.Errorf("status: %+v, %+v", s, h)
		}
		p, err := askIn(ns, second)
		if err != nil || p.Version != "v2" || p.PID != second.Process.Pid {
			t.Errorf("the second answers %+v, %v", p, err)
		}
		first.end()
		second.says("held")
		third := start(t, ns, kind+" v3")
		third.says("waits")
		second.kill()
		third.says("held")
		third.end()
		if s := look(t, ns); s.Holder != nil {
			t.Errorf("held by %v at the end", s.Holder)
		}
	})
}

func askIn(ns *netns.NS, c *child) (p Process, err error) {
	err = ns.Do(func() error { p, err = Ask(fmt.Sprint(c.Process.Pid)); return err })
	return p, err
}

// TestKilledAgainAndAgain kills the holder, of several, again and again: each time one takes over.
func TestKilledAgainAndAgain(t *testing.T) {
	kinds(t, func(t *testing.T, kind string) {
		ns := newNamespace(t)
		all := map[int]*child{}
		add := func() {
			c := start(t, ns, kind+" v1")
			all[c.Process.Pid] = c
		}
		for range 4 {
			add()
		}
		for i := range 12 {
			s := eventually(t, ns, "nobody holds it, or some are not there", func(s Status) bool { return s.Holder != nil && len(s.Waiting) == 3 })
			holders := 0
			for _, c := range all {
				for {
					select {
					case line := <-c.lines:
						if line == "held" {
							holders++
							if c.Process.Pid != s.Holder.PID {
								t.Errorf("round %d: process %d has the lock, and %d, too", i, c.Process.Pid, s.Holder.PID)
							}
						} else if !strings.HasPrefix(line, "waits") {
							t.Errorf("round %d: %s", i, line)
						}
						continue
					default:
					}
					break
				}
			}
			if holders > 1 {
				t.Errorf("round %d: %d got the lock, want 1", i, holders)
			}
			all[s.Holder.PID].kill()
			delete(all, s.Holder.PID)
			add()
		}
	})
}

// stranger makes a child an ordinary user's, with another ID than root's.
func stranger(t *testing.T) func(*syscall.SysProcAttr) {
	t.Helper()
	if netns.InUserNamespace() || os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	return func(a *syscall.SysProcAttr) { a.Credential = &syscall.Credential{Uid: 1000, Gid: 1000} }
}

// TestStranger: an ordinary user in the same network namespace, root of a user namespace of its own or not, can neither take the
// lock nor keep others from it, and is told nothing.
func TestStranger(t *testing.T) {
	as := stranger(t)
	rootInside := func(a *syscall.SysProcAttr) {
		a.Cloneflags = syscall.CLONE_NEWUSER
		a.Credential = &syscall.Credential{NoSetGroups: true}
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1000, Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1000, Size: 1}}
	}
	kinds(t, func(t *testing.T, kind string) {
		ns := newNamespace(t)
		start(t, ns, kind+" bad", as).says("error")
		start(t, ns, kind+" bad", rootInside).says("error")
		if s := look(t, ns); s.Holder != nil {
			t.Fatalf("held by %v", s.Holder)
		}
		first := start(t, ns, kind+" v1")
		first.says("held")
		second := start(t, ns, kind+" v2")
		second.says("waits")
		c := claimIn(t, ns)
		for range mostPeers { // so that nobody else might get through
			start(t, ns, "ask "+c.socket, as).says("error")
		}
		start(t, ns, "ask "+c.socket, rootInside).says("error")
		start(t, ns, kind+" bad", as).says("error")
		if s := look(t, ns); s.Holder == nil || s.Holder.PID != first.Process.Pid || len(s.Waiting) != 1 {
			t.Errorf("status: %+v", s)
		}
		first.kill()
		start(t, ns, "listen "+c.socket, as).says("listening") // in the first one's name
		second.says("held")
		third := start(t, ns, kind+" v3")
		third.says("waits")
		second.end()
		third.says("held")
	})
}

// TestStrangersSocket: a socket of an ordinary user's is not believed, and holds nobody up.
func TestStrangersSocket(t *testing.T) {
	as := stranger(t)
	ns := newNamespace(t)
	first := start(t, ns, "new v1")
	first.says("held")
	c := claimIn(t, ns)
	name := strings.Repeat("ab", 16)
	start(t, ns, "listen "+name, as).says("listening")
	must(t, ns.Do(func() error {
		if _, err := dial(name); err != errStranger { //nolint:errorlint // it is that
			t.Errorf("connected: %v, want %v", err, errStranger)
		}
		return nil
	}))
	if c.socket == name {
		t.Error("the name is the holder's")
	}
}

func listenAt(random string) (net.Listener, error) {
	return net.ListenUnix("unix", socketAddress(random))
}

func claimIn(t testing.TB, ns *netns.NS) (c *claim) {
	t.Helper()
	must(t, ns.Do(func() error {
		l, err := openLocker(tableName("nftproxy"))
		if err != nil {
			return err
		}
		defer l.sock.Close()
		c, err = l.read()
		return err
	}))
	return c
}

// TestTampering: an owned lock cannot be deleted; one without owner is made again, and who waits does not take it.
func TestTampering(t *testing.T) {
	nft := netnstest.Tool(t, "nft")
	kinds(t, func(t *testing.T, kind string) {
		ns := newNamespace(t)
		first := start(t, ns, kind+" v1.2.3")
		first.says("held")
		second := start(t, ns, kind+" v2")
		second.says("waits")
		run := func(args ...string) string {
			var out []byte
			err := ns.Do(func() (err error) { out, err = exec.Command(nft, args...).CombinedOutput(); return err })
			if err != nil {
				out = append(out, err.Error()...)
			}
			return string(out)
		}
		if text := run("list", "ruleset"); !strings.Contains(text, `comment "version=v1.2.3 pid=`) {
			t.Errorf("nft lists\n%s", text)
		}
		was := claimIn(t, ns)
		owned := kind == "new" && hasOwners(t, ns)
		run("flush", "ruleset")
		if out := run("delete", "table", "ip", "nftproxy_lock"); owned && !strings.Contains(out, "Operation not permitted") {
			t.Errorf("deleted: %q", out)
		}
		eventually(t, ns, "the lock is gone", func(s Status) bool { return s.Holder != nil && s.Holder.PID == first.Process.Pid })
		if now := claimIn(t, ns); now.netlink != was.netlink {
			t.Errorf("the lock is %s, want %s", now.text(), was.text())
		}
		first.kill()
		second.says("held")
	})
}

// TestTaken: who finds a lock without owner in another's hands says so.
func TestTaken(t *testing.T) {
	nft := netnstest.Tool(t, "nft")
	ns := newNamespace(t)
	first := start(t, ns, "old v1")
	first.says("held")
	must(t, first.Process.Signal(syscall.SIGSTOP))
	must(t, ns.Do(exec.Command(nft, "flush", "ruleset").Run))
	start(t, ns, "old v2").says("held")
	must(t, first.Process.Signal(syscall.SIGCONT))
	first.says("lost")
}

// TestStale: a lock that nobody holds any more does not stand in anybody's way, nor one that none of us made.
func TestStale(t *testing.T) {
	nft := netnstest.Tool(t, "nft")
	ns := newNamespace(t)
	first := start(t, ns, "old v1")
	first.says("held")
	first.kill()
	if c := claimIn(t, ns); c == nil {
		t.Fatal("the lock without owner is gone")
	}
	if s := look(t, ns); s.Holder != nil {
		t.Errorf("held by %v", s.Holder)
	}
	second := start(t, ns, "new v2")
	second.says("held")
	if c := claimIn(t, ns); c.owned != hasOwners(t, ns) || c.Version != "v2" {
		t.Errorf("the lock is %+v", c)
	}
	second.kill()
	must(t, ns.Do(exec.Command(nft, "add", "table", "ip", "nftproxy_lock").Run))
	start(t, ns, "new v3").says("held")
}

// TestRemoved: where tables have no owners, who gives the lock up removes its table.
func TestRemoved(t *testing.T) {
	ns := newNamespace(t)
	first := start(t, ns, "old v1")
	first.says("held")
	first.end()
	if c := claimIn(t, ns); c != nil {
		t.Errorf("there is %+v", c)
	}
}

// BenchmarkTakeOver measures how long it takes from the kill of the holder until the next one has the lock.
func BenchmarkTakeOver(b *testing.B) {
	ns := newNamespace(b)
	holder := start(b, ns, "new v1")
	holder.says("held")
	for b.Loop() {
		b.StopTimer()
		next := start(b, ns, "new v1")
		next.says("waits")
		eventually(b, ns, "the next one is not there", func(s Status) bool { return len(s.Waiting) == 1 })
		b.StartTimer()
		_ = holder.Process.Kill()
		next.says("held")
		b.StopTimer()
		_ = holder.Wait()
		holder = next
		b.StartTimer()
	}
}
