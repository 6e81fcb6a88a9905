// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"strconv"
	"sync"

	"github.com/spf13/pflag"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/follow"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/kubeproxy"
)

// runFollowing runs, and again when a file has changed that says how: the configuration file, the kubeconfig, or a certificate or key
// that this names. Adoption of the tables makes this harmless. A file that has become wrong is told of and changes nothing. o are
// the options without the configuration file, current those with it, whose content is given.
func (o *runOptions) runFollowing(ctx context.Context, flags *pflag.FlagSet, content []byte, current *runOptions) error {
	o.kubeProxyRuns = kubeproxy.Running{} // who ran at the start may be gone when it starts again
	for {
		next, err := o.runOnce(ctx, flags, &content, current)
		if err != nil || next == nil {
			return err
		}
		next.logMeaningless()
		changeLogging(&current.kubeProxy.Logging, &next.kubeProxy.Logging)
		current = next
	}
}

// runOnce runs until a file has changed, and returns the options that count then, nil if ctx ended. content is that of the
// configuration file that was taken last.
func (o *runOptions) runOnce(ctx context.Context, flags *pflag.FlagSet, content *[]byte, current *runOptions) (*runOptions, error) {
	var mu sync.Mutex
	var changed *runOptions
	take := func(text []byte) error {
		mu.Lock()
		defer mu.Unlock()
		next, err := o.resolved(flags, text)
		if err == nil {
			err = next.withinReach()
		}
		if err != nil {
			return err
		}
		if err = next.connect(); err != nil {
			if bytes.Equal(text, *content) || next.kubeProxy.ClientConnection != current.kubeProxy.ClientConnection {
				return err
			}
			next.api, next.source.apiServers = current.api, current.source.apiServers // the configuration file is right all the same
		}
		changed, *content = next, text
		return nil
	}
	run := []func(context.Context) error{current.run}
	followed := func(w *follow.File, take func([]byte) error) {
		run = append(run, func(ctx context.Context) error {
			defer w.Close()
			w.Next(ctx, take)
			return nil
		})
	}
	if o.kubeProxy.File != "" {
		followed(follow.Watch("configuration file", o.kubeProxy.File, *content), take)
	}
	for _, f := range current.api.files {
		w := follow.Poll(f.what, f.path, f.content)
		if f.what == kubeconfigFile { // the others are replaced seldom: they are looked at from time to time
			w = follow.Watch(f.what, f.path, f.content)
		}
		followed(w, func([]byte) error {
			mu.Lock()
			text := *content
			mu.Unlock()
			return take(text)
		})
	}
	err := runTogether(ctx, run...)
	return changed, err
}

// changeLogging changes the verbosity while goroutines log. For more there is no safe
// way, and a configuration that is not in effect is not kept.
func changeLogging(from, to *logsapi.LoggingConfiguration) {
	verbosity := to.Verbosity
	if verbosity != from.Verbosity {
		if _, err := logs.GlogSetter(strconv.FormatUint(uint64(verbosity), 10)); err != nil {
			klog.ErrorS(err, "The verbosity stays as it is")
		}
	}
	if to.Verbosity = from.Verbosity; !apiequality.Semantic.DeepEqual(from, to) {
		klog.InfoS("Of the changed logging configuration the verbosity counts at once, the rest when nftproxy is started again")
	}
	*to = *from.DeepCopy()
	to.Verbosity = verbosity
}
