// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
)

// resolve reads the configuration file. Without a source on the command line it takes
// over the options of the nftproxy that runs on this node, if one does, but for those
// that are on the command line. root is that of /proc.
func (o *wantOptions) resolve(fs *pflag.FlagSet, root string) error {
	if o.configFile != "" {
		c, err := readConfig(o.configFile)
		if err == nil {
			o.use(c)
		}
		return err
	}
	process := runningNftproxy(root)
	if o.given() || process == "" || !sameNamespaces(root, process) {
		return nil
	}
	theirs, flags, err := optionsOf(filepath.Join(root, "proc", process))
	if err != nil {
		return fmt.Errorf("read the options of the nftproxy that runs here as process %s: %w: give --config, --kubeconfig or --manifests", process, err)
	}
	if fs.Changed("service-proxy-name") && o.source.proxyName != theirs.source.proxyName {
		return nil // that is another one
	}
	theirs.running, theirs.source.version, theirs.source.userConfig = true, o.source.version, o.source.userConfig
	err = putAbove(flags, fs)
	*o = *theirs
	return err
}

// optionsOf reads the command line of a process that is 'nftproxy run', and the
// configuration file that it names.
func optionsOf(process string) (*wantOptions, *pflag.FlagSet, error) {
	line, err := os.ReadFile(filepath.Join(process, "cmdline"))
	if err != nil {
		return nil, nil, err
	}
	directory, err := os.Readlink(filepath.Join(process, "cwd"))
	if err != nil {
		return nil, nil, err
	}
	absolute := func(path *string) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(directory, *path)
		}
	}
	args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	o, flags := runFlags()
	if err := flags.Parse(args[slices.Index(args, "run")+1:]); err != nil {
		return nil, nil, err
	}
	if o.configFile == "" {
		o.completeAddresses()
	} else {
		absolute(&o.configFile)
		c, err := readConfig(o.configFile)
		if err != nil {
			return nil, nil, err
		}
		o.use(c)
	}
	absolute(&o.source.manifests)
	absolute(&o.config.ClientConnection.Kubeconfig)
	return &o.wantOptions, flags, o.validate()
}

// runFlags returns the flags of 'nftproxy run', for command lines of other processes.
func runFlags() (*runOptions, *pflag.FlagSet) {
	o := &runOptions{}
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	flags.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	flags.SetOutput(io.Discard)
	o.addFlags(flags)
	return o, flags
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

// sameNamespaces says whether a process has this one's network and files.
func sameNamespaces(root, process string) bool {
	for _, kind := range []string{"net", "mnt"} {
		here, err := os.Readlink(filepath.Join(root, "proc/self/ns", kind))
		there, err2 := os.Readlink(filepath.Join(root, "proc", process, "ns", kind))
		if err != nil || err2 != nil || here != there {
			return false
		}
	}
	return true
}
