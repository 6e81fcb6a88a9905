// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/trust"
)

// resolve reads the configuration file. Without a source on the command line it takes
// over the options of the nftproxy that runs on this node, if one does that can be
// believed, but for those that are on the command line. root is that of /proc; say is told
// which processes are not believed.
func (o *wantOptions) resolve(fs *pflag.FlagSet, root string, say func(note string)) error {
	if o.kubeProxy.File != "" {
		err := o.kubeProxy.ReadFile()
		useOwn(o, fs)
		return err
	}
	if o.given() {
		return nil
	}
	process, notes := o.runningHere(fs, root)
	for _, note := range notes {
		say(note)
	}
	if process == nil {
		return nil
	}
	theirs, flags, err := optionsOf(process)
	if err != nil {
		return fmt.Errorf("read the options of the nftproxy that runs here as process %s: %w: give --config, --kubeconfig or --manifests", process.ID, err)
	}
	theirs.running, theirs.source.version, theirs.source.userConfig = true, o.source.version, o.source.userConfig
	err = putAbove(flags, fs)
	*o = *theirs
	return err
}

// runningHere returns the nftproxy whose options count, of the --service-proxy-name if one is
// given; nil if there is none. notes says which are not believed.
func (o *wantOptions) runningHere(fs *pflag.FlagSet, root string) (*trust.Process, []string) {
	found, notes := runningNftproxies(root)
	for _, p := range found {
		if fs.Changed("service-proxy-name") && o.source.proxyName != proxyNameIn(p.Args) {
			continue // that is another one
		}
		if p.Doubt == "" {
			return &p, notes
		}
		notes = append(notes, fmt.Sprintf("nftproxy runs as process %s, but its options are not taken over: %s: give --config, --kubeconfig or --manifests", p.ID, p.Doubt))
	}
	return nil, notes
}

// optionsOf reads the command line of a process that is 'nftproxy run', and the
// configuration file that it names. What it names must be nobody else's work.
func optionsOf(process *trust.Process) (*wantOptions, *pflag.FlagSet, error) {
	o, flags := runFlags()
	if err := flags.Parse(process.Args[slices.Index(process.Args, "run")+1:]); err != nil {
		return nil, nil, err
	}
	inherit := func(path *string, check func(string) error) error {
		if *path == "" {
			return nil
		}
		if !filepath.IsAbs(*path) {
			if process.Directory == "" {
				return fmt.Errorf("its working directory, to which %s is relative, cannot be seen", *path)
			}
			*path = filepath.Join(process.Directory, *path)
		}
		if err := process.Shares(*path); err != nil {
			return err
		}
		return check(*path)
	}
	if err := inherit(&o.kubeProxy.File, trust.File); err != nil {
		return nil, nil, err
	}
	if err := o.kubeProxy.ReadFile(); err != nil {
		return nil, nil, err
	}
	useOwn(&o.wantOptions, flags)
	if err := errors.Join(inherit(&o.source.manifests, trust.Directory), inherit(&o.kubeProxy.ClientConnection.Kubeconfig, trust.File)); err != nil {
		return nil, nil, err
	}
	return &o.wantOptions, flags, o.validate()
}

// putAbove gives flags the values of others that were given.
func putAbove(flags, others *pflag.FlagSet) error {
	var errs []error
	others.Visit(func(other *pflag.Flag) {
		f := flags.Lookup(other.Name)
		if f == nil {
			return
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			errs = append(errs, list.Replace(other.Value.(pflag.SliceValue).GetSlice()))
		} else {
			errs = append(errs, f.Value.Set(other.Value.String()))
		}
	})
	return errors.Join(errs...)
}
