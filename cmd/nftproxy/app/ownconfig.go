// SPDX-License-Identifier: Apache-2.0

package app

import "github.com/spf13/pflag"

// useOwn puts what the configuration file says besides kube-proxy's fields in place of flags that were not given, and those that were in
// the file's place.
func useOwn(o *wantOptions, flags *pflag.FlagSet) {
	own := &o.kubeProxy.Own
	settle(flags, "failover", &o.failover.on, &own.Failover)
	settle(flags, "failover-threshold", &o.failover.threshold, &own.FailoverThreshold)
	settle(flags, "failover-share", &o.failover.share, &own.FailoverShare)
	settle(flags, "scheduler", &o.scheduler, &own.Scheduler)
	settle(flags, "maglev-table-size", &o.maglev.size, &own.MaglevTableSize)
	settle(flags, "maglev-seed", &o.maglev.seed, &own.MaglevSeed)
	settle(flags, "max-slots", &o.maxSlots, &own.MaxSlots)
}

// settle gives an option and what a file says of it the same value: the flag's if it was given, else the file's, if that says any.
func settle[T any](flags *pflag.FlagSet, name string, option *T, file **T) {
	switch {
	case flags.Changed(name):
		given := *option
		*file = &given
	case *file != nil:
		*option = **file
	}
}
