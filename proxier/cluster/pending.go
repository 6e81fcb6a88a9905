// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"maps"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// Triggers are when Pods or Services changed, as the EndpointSlices say that came of that, by
// Service.
type Triggers map[ObjectName][]time.Time

// Backlog counts objects that changed.
type Backlog struct {
	// Services and Slices have changed since the last call of Take.
	Services, Slices int
	// AllServices and AllSlices came in since the start, changed or not.
	AllServices, AllSlices int
}

// pending is what came in since it was last taken.
type pending struct {
	services map[ObjectName]struct{}
	slices   int
	triggers [2]Triggers // by family
	// forgotten are the Services whose triggers are not known since: what was taken before has none of theirs either, if it is
	// put back.
	forgotten [2]map[ObjectName]struct{}
	causes    Causes
}

func newPending() pending {
	return pending{services: map[ObjectName]struct{}{}, triggers: [2]Triggers{{}, {}}, forgotten: [2]map[ObjectName]struct{}{{}, {}}}
}

// putBack adds what was taken before.
func (p *pending) putBack(was pending) {
	maps.Copy(p.services, was.services)
	p.slices += was.slices
	p.causes.putBack(was.causes)
	for f, of := range was.triggers {
		for n, times := range of {
			if _, gone := p.forgotten[f][n]; gone {
				continue
			}
			p.triggers[f][n] = append(times, p.triggers[f][n]...)
		}
	}
}

// trigger notes the time in an EndpointSlice's annotation, if that was after a start.
func (p *pending) trigger(s *slice, text string, began time.Time) {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil && t.After(began) {
		of := p.triggers[s.family]
		of[s.service] = append(of[s.service], t)
	}
}

// forget is for an EndpointSlice that is gone. What triggered that is not known: it is not what triggered changes before.
func (p *pending) forget(f rules.Family, service ObjectName) {
	delete(p.triggers[f], service)
	p.forgotten[f][service] = struct{}{}
}
