// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nftproxy/nftproxy/e2e/bench/report"
	"github.com/nftproxy/nftproxy/e2e/bench/usage"
	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// samples is how many Services have to answer before all is taken to be programmed; they
// stand at even distances in the list.
const samples = 64

// start starts the proxy and waits until it serves.
func (r *runner) start(ctx context.Context) error {
	if err := r.site.update(ctx, probeService(), r.site.addresses(0, 1)); err != nil {
		return err
	}
	began := time.Now()
	if err := r.launch(); err != nil {
		return err
	}
	if err := r.served(ctx, began.Add(patience)); err != nil {
		return err
	}
	took := time.Since(began)
	// Attempts from before the rules stay untranslated for minutes, and with them whoever gets their port.
	if err := r.site.Node.Do(forgetFlows); err != nil {
		return err
	}
	if !r.controls() {
		return nil
	}
	r.add("start", "", took.Seconds())
	late := 0
	err := r.inPod(func() error {
		for i := range r.size {
			if _, err := ask(addr(webService(i), askPort), shortly); err != nil {
				late++
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	r.add("late", "", float64(late))
	used, err := settled(ctx, r.proxy.Pid())
	if err != nil {
		return err
	}
	r.add("start-user", "", used.User.Seconds())
	r.add("start-system", "", used.System.Seconds())
	return nil
}

// launch starts the proxy's process in a control group of its own, if there are any.
func (r *runner) launch() error {
	var err error
	if r.proxy, err = r.site.start(r.peer); err != nil {
		return err
	}
	r.children = watchChildren(r.proxy.Pid())
	if r.group, err = newMemoryGroup(r.proxy.Pid()); err != nil {
		r.fail("memory-kernel", err)
	}
	return nil
}

// stop ends the proxy. What it programmed stays.
func (r *runner) stop() error {
	if r.proxy == nil {
		return nil
	}
	r.children.stop()
	var err error
	if r.peer.isNftproxy() {
		err = r.proxy.Stop()
	} else {
		r.proxy.Kill() // kube-proxy has no other end
	}
	r.proxy = nil
	if r.group != "" {
		err = errors.Join(err, r.group.close())
		r.group = ""
	}
	return err
}

// served waits until Services from the whole list answer, and the probe last.
func (r *runner) served(ctx context.Context, deadline time.Time) error {
	return r.inPod(func() error {
		last := min(samples, r.size)
		for i := range last {
			svc := webService(i * (r.size - 1) / max(last-1, 1))
			if err := waitFor(ctx, addr(svc, askPort), time.Until(deadline), anyone); err != nil {
				return fmt.Errorf("%w, %s: %w", errTooSlow, patience, err)
			}
		}
		return waitFor(ctx, addr(probeService(), askPort), time.Until(deadline), anyone)
	})
}

// control measures the control plane of a proxy that runs and serves.
func (r *runner) control(ctx context.Context) error {
	for _, measure := range []func(context.Context) error{r.changes, r.burst, r.idle, r.restart} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	return nil
}

// changesTime bounds the changes of a proxy that takes seconds for each.
const changesTime = 2 * time.Minute

func (r *runner) changes(ctx context.Context) error {
	before, err := usage.CPUTime(r.proxy.Pid())
	if err != nil {
		return err
	}
	var all []float64
	for start := time.Now(); len(all) < r.plan.Changes && time.Since(start) < changesTime; {
		if err := sleep(ctx, quiet); err != nil {
			return err
		}
		took, err := r.change(ctx)
		if err != nil {
			return err
		}
		all = append(all, milliseconds(took))
	}
	after, err := settled(ctx, r.proxy.Pid())
	if err != nil {
		return err
	}
	r.add("change", "", all...)
	r.add("change-cpu", "", milliseconds(after.Sub(before).All())/float64(len(all)))
	return nil
}

// quiet comes before each change: kube-proxy syncs at most once a second
// (minSyncPeriod), and so has nothing to wait for.
const quiet = 1100 * time.Millisecond

// change moves the probe's Service to its other endpoint, and returns how long it took
// until a connection went there.
func (r *runner) change(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	to, err := r.moveProbe(ctx)
	if err != nil {
		return 0, err
	}
	err = r.inPod(func() error { return waitFor(ctx, addr(probeService(), askPort), patience, only(to)) })
	return time.Since(start), err
}

// moveProbe replaces the endpoint of the probe's Service, and returns the new one.
func (r *runner) moveProbe(ctx context.Context) (netip.Addr, error) {
	r.moves++
	to := r.site.addresses(r.moves%2, 1)
	return to[0], r.site.update(ctx, probeService(), to)
}

// burst replaces all endpoints of many Services at once, and puts them back.
func (r *runner) burst(ctx context.Context) error {
	for _, to := range []func(int) []netip.Addr{r.site.changed, r.site.usual} {
		before, err := usage.CPUTime(r.proxy.Pid())
		if err != nil {
			return err
		}
		if err := r.updateMany(ctx, to); err != nil {
			return err
		}
		answered := time.Now()
		if err := r.inPod(func() error { return r.followed(ctx, to) }); err != nil {
			return err
		}
		r.add("burst", "", milliseconds(time.Since(answered)))
		after, err := settled(ctx, r.proxy.Pid())
		if err != nil {
			return err
		}
		r.add("burst-cpu", "", after.Sub(before).All().Seconds())
	}
	return nil
}

// inBurst returns the Services of a burst.
func (r *runner) inBurst() []int {
	var out []int
	n := min(r.plan.Burst, r.size)
	for i := range n {
		out = append(out, i*r.size/n)
	}
	return out
}

func (r *runner) updateMany(ctx context.Context, to func(int) []netip.Addr) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(32)
	for _, i := range r.inBurst() {
		g.Go(func() error { return r.site.update(ctx, webService(i), to(i)) })
	}
	return g.Wait()
}

// followed waits until each Service of a burst goes to its new endpoints.
func (r *runner) followed(ctx context.Context, to func(int) []netip.Addr) error {
	for _, i := range r.inBurst() {
		isNew := map[netip.Addr]bool{}
		for _, a := range to(i) {
			isNew[a] = true
		}
		if err := waitFor(ctx, addr(webService(i), askPort), patience, func(a netip.Addr) bool { return isNew[a] }); err != nil {
			return err
		}
	}
	return nil
}

// idle waits until nothing goes on any more, and looks at what the process takes.
func (r *runner) idle(ctx context.Context) error {
	pid := r.proxy.Pid()
	if err := sleep(ctx, 3*window(r.plan)); err != nil { // memory that is not needed is given back in a few seconds
		return err
	}
	before, err := usage.CPUTime(pid)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := sleep(ctx, 2*window(r.plan)); err != nil {
		return err
	}
	after, err := usage.CPUTime(pid)
	if err != nil {
		return err
	}
	r.add("idle-cpu", "", 100*after.Sub(before).All().Seconds()/time.Since(began).Seconds())
	for metric, what := range map[string]string{"memory": "VmRSS", "memory-peak": "VmHWM"} {
		mb, err := usage.MemoryMB(pid, what)
		if err != nil {
			return err
		}
		r.add(metric, "", mb)
	}
	if r.group == "" {
		return nil
	}
	bytes, err := r.group.kernel()
	if err != nil {
		return err
	}
	r.add("memory-kernel", "", bytes/float64(r.size))
	return nil
}

// restart stops the proxy, replaces an endpoint, and starts it again.
func (r *runner) restart(ctx context.Context) error {
	largest := r.children.stop()
	if err := r.stop(); err != nil {
		return err
	}
	r.add("memory-programs", "", largest)
	to, err := r.moveProbe(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := r.launch(); err != nil {
		return err
	}
	err = r.inPod(func() error { return waitFor(ctx, addr(probeService(), askPort), patience, only(to)) })
	if err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	r.add("restart", "", time.Since(began).Seconds())
	return nil
}

// roll updates EndpointSlices at an even pace, and measures how far behind the proxy is.
func (r *runner) roll(ctx context.Context) error {
	const pause = time.Second / 333
	total := 10 * window(r.plan)
	before, err := usage.CPUTime(r.proxy.Pid())
	if err != nil {
		return err
	}
	start := time.Now()
	g, rolling := errgroup.WithContext(ctx)
	const writers = 16
	for w := range writers {
		g.Go(func() error {
			for i := w; time.Duration(i)*pause < total; i += writers {
				if err := sleep(rolling, time.Until(start.Add(time.Duration(i)*pause))); err != nil {
					return err
				}
				n := i % min(500, r.size)
				to := r.site.changed
				if i/min(500, r.size)%2 == 1 {
					to = r.site.usual
				}
				if err := r.site.update(rolling, webService(n), to(n)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for time.Since(start) < total && rolling.Err() == nil {
		took, err := r.change(ctx)
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		r.add("roll-change", "", milliseconds(took))
	}
	if err := g.Wait(); err != nil {
		return err
	}
	after, err := usage.CPUTime(r.proxy.Pid())
	if err != nil {
		return err
	}
	r.add("roll-cpu", "", 100*after.Sub(before).All().Seconds()/time.Since(start).Seconds())
	return r.updateMany(ctx, r.site.usual)
}

// floor measures how long the kernel takes for the rules that nftproxy left behind, sent
// ready-made to an empty namespace. Nobody may listen to nftables' events meanwhile:
// the kernel would work for that, too.
func (r *runner) floor(ctx context.Context) error {
	var have rules.State
	err := r.site.Node.Do(func() error {
		k, err := kernel.Open()
		if err != nil {
			return err
		}
		have, err = k.Read(rules.DefaultTable)
		return errors.Join(err, k.Close())
	})
	if err != nil {
		return err
	}
	for range 3 {
		took, err := load(rules.Diff(rules.State{}, have))
		if err != nil {
			return err
		}
		r.measured(report.Floor, "start", "", took.Seconds())
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// load sends a transaction to a namespace of its own and returns how long the kernel worked.
func load(tx rules.Tx) (busy time.Duration, err error) {
	ns, err := netns.New("floor")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	err = ns.Do(func() error {
		k, err := kernel.Open()
		if err != nil {
			return err
		}
		err = k.Apply(tx)
		busy = k.Busy()
		return errors.Join(err, k.Close())
	})
	return busy, err
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
