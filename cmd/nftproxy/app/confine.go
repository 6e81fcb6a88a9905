// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/sandbox"
)

// confine takes from this process the rights that it does not need to run, and says which it has.
func (o *runOptions) confine(log klog.Logger) {
	if o.enter == nil || o.initOnly {
		return
	}
	notes := []string{"all: --sandbox=never"}
	if o.sandbox != never {
		c := o.reach()
		if o.source.manifests == "" { // host.Prepare writes these
			root := filepath.Join("/", o.sysctlRoot)
			c.Write = []string{filepath.Join(root, "proc/sys/net"), filepath.Join(root, "sys/module/nf_conntrack/parameters/hashsize"), "/proc/self/oom_score_adj"}
		}
		if dir := o.socketDirectory(); dir != "" {
			c.Sockets = []string{dir}
		}
		notes = o.enter(c)
	}
	state := confinement("/", "self")
	if len(notes) == 0 {
		log.Info("Confinement", "state", state)
	} else {
		log.Info("Confinement", "state", state, "notes", strings.Join(notes, "; "))
	}
}

// confinement says how a process is confined.
func confinement(root, process string) string {
	state, err := sandbox.Of(filepath.Join(root, "proc"), process)
	if err != nil {
		return err.Error()
	}
	return state.String()
}

// reach returns what is read: what the options name, and what the kubeconfig names.
func (o *runOptions) reach() (c sandbox.Config) {
	files := []string{o.kubeProxy.File, o.source.manifests, o.kubeProxy.ClientConnection.Kubeconfig}
	if o.source.manifests == "" {
		if config, err := o.restConfig(); err == nil { // else the start fails soon
			files = append(files, config.CAFile, config.CertFile, config.KeyFile, config.BearerTokenFile)
			if config.ExecProvider != nil {
				c.Plugin = config.ExecProvider.Command
			}
		}
	}
	for _, file := range files {
		if file != "" {
			c.Read = append(c.Read, file)
		}
	}
	return c
}

// withinReach says what of the options this process, as it is confined, can have no more.
func (o *runOptions) withinReach() error {
	state, err := sandbox.Of("/proc", "self")
	if err != nil || !state.Landlock {
		return nil //nolint:nilerr // nothing is known that is out of reach
	}
	const again = "this process has given up that right (--sandbox): start nftproxy again to use it"
	c := o.reach()
	if c.Plugin != "" {
		return fmt.Errorf("the kubeconfig names a credential plugin, %q: %s", c.Plugin, again)
	}
	for _, path := range c.Read {
		file, err := os.Open(path)
		if err == nil {
			file.Close()
		} else if errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("%w: %s", err, again)
		}
	}
	return nil
}
