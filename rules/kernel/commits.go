// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import "sync"

// commits tells our commits from others', whatever they change.
type commits struct {
	mu   sync.Mutex // held during each of our commits
	ours uint32
	// seen is how many of others' a reading saw, counted from an unknown number.
	seen uint32
}

// others returns the ruleset's generation, and how much of it is others' doing.
func (k *Kernel) others() (gen, others uint32, err error) {
	k.commits.mu.Lock()
	defer k.commits.mu.Unlock()
	gen, err = k.generation()
	return gen, gen - k.commits.ours, err
}
