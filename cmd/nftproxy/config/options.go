// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"

	"github.com/spf13/pflag"
	logsapi "k8s.io/component-base/logs/api/v1"
)

// Options is what kube-proxy's flags say, or the configuration file that they name.
type Options struct {
	Config
	File string // --config; empty: there is none
	Own  Own    // what File says besides kube-proxy's

	healthzPort int32 // of addresses without one
	metricsPort int32
}

// Resolved returns the options as they count: with what the configuration file says, whose content is
// given, if there is one. flags are those that the options came from: of them those for logging count
// beside a file. warnings is what the file says and has no meaning here.
func (o Options) Resolved(flags *pflag.FlagSet, content []byte) (resolved Options, warnings []string, err error) {
	if o.File == "" {
		o.completeAddresses()
		return o, nil, nil
	}
	c, own, warnings, err := Parse(content)
	if err == nil {
		err = logsFromFlags(flags, &c.Logging)
	}
	if err != nil {
		return Options{}, nil, fmt.Errorf("--config %s: %w", o.File, err)
	}
	o.use(c)
	o.Own = own
	return o, warnings, nil
}

// LogFormat returns the form that the log is to have, as far as that can be told before anything is
// known to be right: else nothing. Its arguments are those of Resolved.
func (o Options) LogFormat(flags *pflag.FlagSet, content []byte) string {
	resolved, _, err := o.Resolved(flags, content)
	if err != nil {
		return ""
	}
	return resolved.Logging.Format
}

// ReadFile puts what the configuration file says, if there is one, in place of the flags, those for
// logging, too. Without one it completes what the flags say.
func (o *Options) ReadFile() error {
	if o.File == "" {
		o.completeAddresses()
		return nil
	}
	c, own, err := Read(o.File)
	if err != nil {
		return err
	}
	o.Own = own
	o.use(c)
	return nil
}

// use puts a configuration in place of kube-proxy's flags. As there, only --hostname-override,
// --master and the logging flags count beside one.
func (o *Options) use(c *Config) {
	name := o.HostnameOverride
	o.Config = *c
	if name != "" {
		o.HostnameOverride = name
	}
}

// completeAddresses gives addresses without a port that of the deprecated flags, as
// kube-proxy does; port 0 takes an address away.
func (o *Options) completeAddresses() {
	orElse(&o.BindAddress, "0.0.0.0")
	for _, a := range []struct {
		address *string
		port    int32
	}{{&o.HealthzBindAddress, o.healthzPort}, {&o.MetricsBindAddress, o.metricsPort}} {
		if *a.address = withPort(*a.address, a.port); a.port == 0 {
			*a.address = ""
		}
	}
}

// logsFromFlags puts the logging flags that were given above what a file says; patterns
// of both count, the flags' first.
func logsFromFlags(flags *pflag.FlagSet, to *logsapi.LoggingConfiguration) error {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	logsapi.AddFlags(to, own)
	patterns := to.VModule
	to.VModule = nil
	var err error
	own.VisitAll(func(f *pflag.Flag) {
		if given := flags.Lookup(f.Name); err == nil && given != nil && given.Changed {
			err = f.Value.Set(given.Value.String())
		}
	})
	to.VModule = append(to.VModule, patterns...)
	return err
}
