// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
)

const thirdAt = "10.244.1.4:8080"

// silent makes an endpoint answer before, and then leave three connections to a Service unanswered, until it is ejected.
func (p *packets) silent(to, endpoint string) {
	for _, other := range []string{deadAt, liveAt, thirdAt} {
		p.answer(rules.TCP, other)
	}
	pass(time.Second)
	for client := range 3 {
		p.resend(100+client, rules.TCP, to, endpoint)
	}
	pass(time.Second)
	p.took()
}

// TestSilentEvents: an Event of an endpoint that does not answer comes at once, and the next one of the same endpoint ten minutes
// later at the earliest, however often it is ejected. Other endpoints, and other Services, have Events of their own.
func TestSilentEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := startFailover(t, true)
		defer n.stop()
		n.lists(failoverObjects()...)
		begin := time.Now()
		var told []time.Duration
		ejections := 0
		for time.Since(begin) < 25*time.Minute {
			p.silent(webAt, deadAt)
			if n.outcomes(webAt, 2) == liveAt+" "+thirdAt {
				ejections++
			}
			for _, event := range n.events {
				if want := "Service default/web  EndpointSilent: " + deadAt + " does not answer from node here: no new connections for "; !strings.Contains(event, want) {
					t.Errorf("Event %q, want %q", event, want)
				}
				told = append(told, time.Since(begin).Truncate(time.Minute))
			}
			n.events = nil
			p.answer(rules.TCP, deadAt)
			pass(20 * time.Second)
		}
		if want := []time.Duration{0, 10 * time.Minute, 20 * time.Minute}; !slices.Equal(told, want) || ejections < 30 {
			t.Errorf("%d ejections in 25 minutes, Events after %v, want %v", ejections, told, want)
		}
		p.silent(webAt, liveAt)
		n.expectEvents("Service default/web  EndpointSilent: " + liveAt)
		p.silent(stickyAt, deadAt)
		n.expectEvents("Service default/sticky  EndpointSilent: " + deadAt)
	})
}

// TestFailoverMetrics: rescued connections and ejected endpoints are counted; by Service only if that is asked for.
func TestFailoverMetrics(t *testing.T) {
	for _, byService := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			metrics := proxier.NewFailoverMetrics(byService)
			n, p := startFailoverWith(t, true, metrics, nil)
			defer n.stop()
			n.lists(failoverObjects()...)
			p.silent(webAt, deadAt)
			want := "ejected_total 1, endpoints ejected 1, endpoints in-use 3, endpoints suspect 1, rescued_total 3"
			if byService {
				want += ", service_ejected_total default web http 1, service_rescued_total default web http 3"
			}
			want += ", suspended 0"
			if got := failoverFigures(t, metrics); got != want {
				t.Errorf("by Service %v: %s\nwant %s", byService, got, want)
			}
		})
	}
}

// failoverFigures returns all metrics in a line.
func failoverFigures(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			text := strings.TrimPrefix(strings.TrimPrefix(f.GetName(), "nftproxy_"), "failover_")
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			for _, name := range []string{"state", "namespace", "service", "port"} {
				if v, ok := labels[name]; ok {
					text += " " + v
				}
			}
			out = append(out, fmt.Sprint(text, " ", m.GetCounter().GetValue()+m.GetGauge().GetValue()))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
