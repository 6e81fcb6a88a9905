// SPDX-License-Identifier: Apache-2.0

package rules

import "slices"

// slots say which endpoint each number that the kernel chooses leads to, by the endpoints' indexes: what a scheduler makes of
// endpoints and weights. Nil: each endpoint has one, in order.
type slots []uint16

// layout is how a scheduler makes slots of endpoints.
type layout uint8

const (
	exact    layout = iota // as many as the weights add up to
	fluid                  // a number that stays while shares change: the kernel's counter goes on, and no rule changes
	tabulate               // a table of a given size, in which little changes with the endpoints
)

// fewestSlots is how many slots a fluid layout has at least, and slotsEach how many for each endpoint.
const (
	fewestSlots = 64
	slotsEach   = 8
)

// layOut lays out the slots of endpoints, whose weights are those of this node.
func layOut(sp *ServicePort, list []Endpoint, c *Config) slots {
	if len(list) < 2 {
		return nil
	}
	limit := MaxEndpoints
	if sp.SlotLimit > 0 {
		limit = min(limit, max(sp.SlotLimit, len(list)))
	}
	row := &schedulers[sp.Scheduler]
	switch {
	case row.layout == tabulate:
		return maglev(list, tableSize(sp, len(list), limit), c.MaglevSeed)
	case row.layout == fluid || warming(list):
		weights := make([]uint64, len(list))
		for i := range list {
			weights[i] = uint64(list[i].weight()) * warmth(&list[i])
		}
		if row.layout == fluid {
			leastOpen(list, weights, uint64(fluidSize(len(list), limit))) //nolint:gosec // sizes are positive
		}
		apportion(weights, uint64(fluidSize(len(list), limit)), true) //nolint:gosec // sizes are positive
		return spread(weights)
	}
	return exactly(list, limit)
}

// exactly lays out as many slots as the weights add up to.
func exactly(list []Endpoint, limit int) slots {
	alike := true
	for i := range list {
		alike = alike && list[i].weight() == list[0].weight()
	}
	if alike {
		return nil
	}
	weights := make([]uint64, len(list))
	for i := range list {
		weights[i] = uint64(list[i].weight())
	}
	if reduced(weights) > uint64(limit) { //nolint:gosec // limits are positive
		apportion(weights, uint64(limit), false) //nolint:gosec // limits are positive
		reduced(weights)
	}
	return spread(weights)
}

// fluidSize returns how many slots a fluid layout has.
func fluidSize(endpoints, limit int) int {
	n := fewestSlots
	for n < slotsEach*endpoints {
		n *= 2
	}
	for n > limit {
		n /= 2
	}
	return max(n, endpoints)
}

// warming says whether an endpoint is new.
func warming(list []Endpoint) bool {
	for i := range list {
		if list[i].Warm > 0 {
			return true
		}
	}
	return false
}

// warmth returns how many tenths of an endpoint's weight count.
func warmth(e *Endpoint) uint64 {
	if e.Warm == 0 {
		return 10
	}
	return uint64(min(e.Warm, 10))
}

// leastOpen makes weights what each endpoint is to get of the next connections, so that afterwards all have as many open for
// their weight as they can. It looks further ahead where more are open: where there are many, many come before they
// are counted again, and all of them must not go where there were few.
func leastOpen(list []Endpoint, weights []uint64, slots uint64) {
	reduced(weights)
	lower(weights, 1<<16)
	open := make([]uint64, len(list))
	ahead := slots
	for i := range list {
		open[i] = min(uint64(list[i].Open), 1<<24)
		ahead += open[i] / 4
	}
	// The level is the number of connections for a weight to which all are filled up that have fewer.
	full := make([]bool, len(list))
	for {
		sum, have := uint64(0), ahead
		for i := range list {
			if !full[i] {
				sum, have = sum+weights[i], have+open[i]
			}
		}
		again := false
		for i := range list {
			if !full[i] && open[i]*sum >= have*weights[i] {
				full[i], again = true, true
			}
		}
		if !again {
			for i := range list {
				if full[i] {
					weights[i] = min(weights[i], 1) // it keeps a slot: to have none is to be no endpoint any more
					continue
				}
				weights[i] = have*weights[i] - open[i]*sum
			}
			lower(weights, 1<<40)
			return
		}
	}
}

// lower makes weights smaller than a power of two by shifting all of them; those above 0 stay so.
func lower(weights []uint64, limit uint64) {
	shift := 0
	for slices.Max(weights)>>shift >= limit {
		shift++
	}
	for i, w := range weights {
		if w > 0 {
			weights[i] = max(w>>shift, 1)
		}
	}
}
