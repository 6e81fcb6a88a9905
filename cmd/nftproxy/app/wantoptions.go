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
	logsapi "k8s.io/component-base/logs/api/v1"

	"github.com/nftproxy/nftproxy/proxier"
)

// wantOptions decides what this node should hold.
type wantOptions struct {
	source     sourceOptions
	rules      rulesOptions
	node       nodeOptions
	configFile string
	running    bool // these are the options of the nftproxy that runs on this node
}

// add adds the flags of a command that looks at what should be and changes nothing.
func (o *wantOptions) add(fs *pflag.FlagSet) {
	o.source.userConfig = true
	o.source.add(fs)
	fs.Lookup("kubeconfig").Usage = "kubeconfig `file` of the API server (default: that of the nftproxy that runs here, in-cluster configuration, else kubectl's)"
	o.rules.add(fs)
	o.node.add(fs)
	o.addConfigFile(fs)
}

func (o *wantOptions) addConfigFile(fs *pflag.FlagSet) {
	fs.StringVar(&o.configFile, "config", "", "configuration `file` of kube-proxy (kubeproxy.config.k8s.io/v1alpha1); beside it only --hostname-override, --master, logging flags and flags that kube-proxy does not have count")
}

// given says whether a source is named.
func (o *wantOptions) given() bool {
	return o.source.manifests != "" || o.source.kubeconfig != "" || o.source.master != "" || o.configFile != "" || o.running
}

// proxierConfig checks the options, and returns what they say; all that is wrong with
// them is in one error.
func (o *wantOptions) proxierConfig() (proxier.Config, error) {
	var c proxier.Config
	var errs [3]error
	c.Rules, errs[0] = o.rules.config(o.source.proxyName)
	c.NodeName, errs[1] = o.rules.nodeName()
	errs[2] = o.node.apply(&c)
	return c, errors.Join(o.source.validate(), errors.Join(errs[:]...))
}

// resolve reads the configuration file. Without a source on the command line it takes
// over the options of the nftproxy that runs on this node, if one does, but for those
// that are on the command line. root is that of /proc.
func (o *wantOptions) resolve(fs *pflag.FlagSet, root string) error {
	if o.configFile != "" {
		c, _, err := readConfig(o.configFile)
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
	o.running, o.node.bindAddress = true, theirs.node.bindAddress
	return takeOver(fs, flags)
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
	o := &runOptions{logging: *logsapi.NewLoggingConfiguration()}
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	o.addFlags(flags)
	if err := flags.Parse(args[slices.Index(args, "run")+1:]); err != nil {
		return nil, nil, err
	}
	if o.configFile != "" {
		absolute(&o.configFile)
		c, _, err := readConfig(o.configFile)
		if err != nil {
			return nil, nil, err
		}
		o.use(c)
	}
	absolute(&o.source.manifests)
	absolute(&o.source.kubeconfig)
	return &o.wantOptions, flags, nil
}

// takeOver gives flags that were not given others' values.
func takeOver(fs, others *pflag.FlagSet) error {
	var errs []error
	fs.VisitAll(func(f *pflag.Flag) {
		other := others.Lookup(f.Name)
		if f.Changed || other == nil {
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
