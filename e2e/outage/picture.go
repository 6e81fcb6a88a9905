// SPDX-License-Identifier: Apache-2.0

//go:build linux

package outage

import (
	"fmt"
	"html"
	"math"
	"strings"
	"time"
)

// Of the picture: where its axes are, in pixels, and what the vertical one goes from and to, in seconds.
const (
	width, height = 840.0, 380.0
	left, right   = 60.0, 20.0
	top, bottom   = 40.0, 70.0
	shortest      = 1e-4
)

// step is the part of the time for which the picture shows the longest connection.
const step = 500 * time.Millisecond

func (r *Report) x(at time.Duration) float64 {
	return left + (at+r.Before).Seconds()/(r.Before+r.After).Seconds()*(width-left-right)
}

func (r *Report) y(took float64) float64 {
	longest := r.Timeout.Seconds()
	return top + math.Log(longest/min(max(took, shortest), longest))/math.Log(longest/shortest)*(height-top-bottom)
}

// picture draws, for each step, the longest time that a connection took which began then.
func (r *Report) picture() string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="13">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#fff"/>`+"\n")
	r.axes(&b)
	for i, p := range r.Peers {
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="1.8" points="`, p.Color)
		for at, took := range r.longest(p.Connections) {
			fmt.Fprintf(&b, "%.1f,%.1f ", r.x(time.Duration(at)*step+step/2-r.Before), r.y(took.Seconds()))
		}
		fmt.Fprintf(&b, `"/>`+"\n"+`<rect x="%g" y="%g" width="14" height="4" fill="%s"/><text x="%g" y="%g">%s</text>`+"\n",
			left+float64(i)*130, height-34, p.Color, left+float64(i)*130+20, height-28, html.EscapeString(p.Title))
	}
	fmt.Fprintf(&b, `<text x="%g" y="%g" fill="#555">the longest connection of those that began in each %v, %d a second; %v: one failed</text>`+"\n</svg>\n",
		left, height-8, step, r.Rate, r.Timeout)
	return b.String()
}

func (r *Report) axes(b *strings.Builder) {
	for _, tick := range []time.Duration{100 * time.Microsecond, time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, time.Second, 10 * time.Second, r.Timeout} {
		y := r.y(tick.Seconds())
		fmt.Fprintf(b, `<line x1="%g" x2="%g" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%g" y="%.1f" text-anchor="end">%s</text>`+"\n",
			left, width-right, y, y, left-6, y+4, tick)
	}
	for at := time.Duration(0); at <= r.After; at += 10 * time.Second {
		fmt.Fprintf(b, `<text x="%.1f" y="%g" text-anchor="middle">%g s</text>`+"\n", r.x(at), height-bottom+18, at.Seconds())
	}
	marks := []struct {
		at           time.Duration
		text, anchor string
	}{{0, r.What, "start"}, {r.Noticed, "Kubernetes says so", "middle"}}
	for _, m := range marks[:1+min(1, int(r.Noticed))] {
		fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%g" y2="%g" stroke="#888" stroke-dasharray="4 3"/><text x="%.1f" y="%g" text-anchor="%s" fill="#555">%s</text>`+"\n",
			r.x(m.at), r.x(m.at), top-8, height-bottom, r.x(m.at), top-12, m.anchor, html.EscapeString(m.text))
	}
}

// longest returns how long connections took at most that began in each step; Timeout where one failed.
func (r *Report) longest(list []Connection) []time.Duration {
	out := make([]time.Duration, (r.Before+r.After)/step)
	for _, c := range list {
		if at := int((c.Began + r.Before) / step); at >= 0 && at < len(out) {
			if out[at] = max(out[at], c.Took); c.Failed { // some are told by ICMP before
				out[at] = r.Timeout
			}
		}
	}
	return out
}
