// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/e2e/bench/usage"
)

// The columns of the samples, in the order of a sample. Rates are since the sample before.
const (
	colMinute      = "minute"
	colMemory      = "memory"      // resident, in MB
	colCPU         = "cpu"         // percent of a core
	colGoroutines  = "goroutines"  // of nftproxy
	colDescriptors = "descriptors" // of nftproxy
	colConnections = "connections" // a second
	colFailed      = "failed"      // so far
	colSlowest     = "slowest"     // connection, in ms
	colChanges     = "changes"     // a second
	colForeign     = "foreign"     // another program's changes a second
	colRepairs     = "repairs"     // operations so far
	colRefused     = "refused"     // transactions so far
)

// series is the samples of each column.
type series map[string][]float64

func (s series) add(column string, v float64) {
	s[column] = append(s[column], float64(int64(v*1000+0.5))/1000)
}

// sampler looks at nftproxy and at the counts of a run.
type sampler struct {
	*run
	http    *http.Client
	last    time.Time
	cpu     usage.CPU
	before  snapshot
	changes int64
	foreign int64
}

func (r *run) newSampler() (*sampler, error) {
	cpu, err := usage.CPUTime(r.proxy.Pid())
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = r.Node.Do(func() error { conn, err = new(net.Dialer).DialContext(ctx, network, address); return err })
		return conn, err
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, Proxy: nil}, Timeout: 20 * time.Second}
	return &sampler{run: r, http: client, last: time.Now(), cpu: cpu}, nil
}

// sample takes samples at an even pace until going ends.
func (r *run) sample(ctx, going context.Context) error {
	s, err := r.newSampler()
	if err != nil {
		return err
	}
	defer s.http.CloseIdleConnections()
	for wait(going, time.Until(s.last.Add(r.plan.sampling()))) {
		if err := s.one(ctx); err != nil {
			return err
		}
		r.forgetRequests()
		r.tell()
	}
	return nil
}

func (s *sampler) one(ctx context.Context) error {
	pid := s.proxy.Pid()
	cpu, err := usage.CPUTime(pid)
	if err != nil {
		return fmt.Errorf("%w: it has ended? Its log:\n%s", err, tail(s.proxy.Log(), 30))
	}
	memory, err := usage.MemoryMB(pid, "VmRSS")
	if err != nil {
		return err
	}
	descriptors, err := usage.Descriptors(pid)
	if err != nil {
		return err
	}
	metrics, err := s.metrics(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	took := now.Sub(s.last).Seconds()
	tally, changes, foreign := s.tally.take(), s.run.changes.Load(), s.run.foreign.tried.Load()
	out := s.series
	out.add(colMinute, now.Sub(s.began).Minutes())
	out.add(colMemory, memory)
	out.add(colCPU, 100*cpu.Sub(s.cpu).All().Seconds()/took)
	out.add(colDescriptors, float64(descriptors))
	out.add(colGoroutines, metrics["go_goroutines"])
	out.add(colRepairs, metrics["nftproxy_repairs_total"])
	out.add(colRefused, metrics["nftproxy_transactions_refused_total"])
	out.add(colConnections, float64(tally.Made-s.before.Made)/took)
	out.add(colFailed, float64(tally.Failed))
	out.add(colSlowest, float64(tally.Slowest.Microseconds())/1000)
	out.add(colChanges, float64(changes-s.changes)/took)
	out.add(colForeign, float64(foreign-s.foreign)/took)
	s.last, s.cpu, s.before, s.changes, s.foreign = now, cpu, tally, changes, foreign
	return nil
}

// metrics asks nftproxy for its metrics, and adds those up that differ in labels only.
func (s *sampler) metrics(ctx context.Context) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:10249/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := s.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask for metrics: %w", err)
	}
	defer response.Body.Close()
	out := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		text := lines.Text()
		name := text[:max(0, strings.IndexAny(text, "{ "))]
		if v, err := strconv.ParseFloat(text[strings.LastIndexByte(text, ' ')+1:], 64); err == nil && !strings.HasPrefix(text, "#") {
			out[name] += v
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	return out, nil
}

// tail returns the last lines of a text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
