// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"
)

// Scheduler says how new connections are spread over endpoints.
type Scheduler uint8

// The schedulers.
const (
	// RoundRobin gives each endpoint its turn, exactly, for each service port.
	RoundRobin Scheduler = iota
	// Random chooses by chance.
	Random
	// SourceHash chooses by the client's address and port: the same endpoint for
	// both, as long as the endpoints stay the same.
	SourceHash
	// ClientHash does so by the client's address.
	ClientHash
	// Maglev chooses by the client's address and port, alike on all nodes, and so that few clients get another
	// endpoint when endpoints change.
	Maglev
	// LeastConnections prefers the endpoints with the fewest connections for their weight.
	LeastConnections
	numSchedulers
)

// scheduler is the row of a Scheduler.
type scheduler struct {
	name string
	// field chooses one of so many endpoints.
	field FieldKind
	// needs is what nftables must have for it, beyond what all need.
	needs string
	// shares says that all frontends with as many endpoints share a chain, where nothing else needs another one: their
	// endpoints are copied under each frontend's key, into Backends. Otherwise each service port has a chain of its own, and
	// its endpoints stand once, under the chain's number, in Endpoints.
	shares bool
	// turns says that the order of the endpoints matters: it differs from node to node.
	turns bool
	// alike says that all nodes are to choose the same endpoint, whatever is near them.
	alike bool
	// layout is how slots are made of endpoints and their weights.
	layout layout
}

var schedulers = [numSchedulers]scheduler{
	RoundRobin: {name: "round-robin", field: Numgen, turns: true},
	Random:     {name: "random", field: RandomNumber, needs: "numgen random", shares: true},
	SourceHash: {name: "source-hash", field: FlowHash, needs: "jhash", shares: true},
	ClientHash: {name: "client-hash", field: AddrHash, needs: "jhash", shares: true},
	Maglev:     {name: "maglev", field: FlowHash, needs: "jhash", shares: true, alike: true, layout: tabulate},

	LeastConnections: {name: "least-connections", field: Numgen, turns: true, layout: fluid},
}

// Schedulers lists all schedulers.
func Schedulers() []Scheduler {
	out := make([]Scheduler, numSchedulers)
	for i := range out {
		out[i] = Scheduler(i)
	}
	return out
}

// SchedulerNames lists their names.
func SchedulerNames() []string {
	out := make([]string, numSchedulers)
	for i := range out {
		out[i] = schedulers[i].name
	}
	return out
}

// String returns the scheduler's name.
func (s Scheduler) String() string { return schedulers[s].name }

// Tables says that the scheduler has a table of a given size: Policies.TableSize.
func (s Scheduler) Tables() bool { return schedulers[s].layout == tabulate }

// Counts says that the scheduler asks how many connections are open to each endpoint: Weighting.Open.
func (s Scheduler) Counts() bool { return schedulers[s].layout == fluid }

// Copies says that the scheduler makes several slots of an endpoint, even where all weigh the same.
func (s Scheduler) Copies() bool { return schedulers[s].layout != exact }

// Alike says that all nodes choose the same endpoint for a client, whatever is near them.
func (s Scheduler) Alike() bool { return schedulers[s].alike }

// Needs names what nftables must have for the scheduler; empty: what all need.
func (s Scheduler) Needs() string { return schedulers[s].needs }

// ParseScheduler returns the scheduler of a name; an error names those that there are.
func ParseScheduler(name string) (Scheduler, error) {
	for s := range numSchedulers {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("%q is none of %s", name, strings.Join(SchedulerNames(), ", "))
}

// sharing names the schedulers whose frontends share chains.
func sharing() string {
	var names []string
	for _, s := range schedulers {
		if s.shares {
			names = append(names, s.name)
		}
	}
	return strings.Join(names, " and ")
}
