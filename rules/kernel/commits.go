// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

// commits tells our commits from others', whatever they change.
type commits struct {
	ours uint32
	// seen is how many of others' a reading saw, counted from an unknown number.
	seen uint32
}

// others returns the ruleset's generation, and how much of it is others' doing. k.mu is held.
func (k *Kernel) others() (gen, others uint32, err error) {
	gen, err = k.generation()
	return gen, gen - k.commits.ours, err
}
