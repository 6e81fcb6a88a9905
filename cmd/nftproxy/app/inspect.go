// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/nodeaddr"
	"github.com/nftproxy/nftproxy/proxier/source"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// Exit codes of the commands that look and change nothing.
const (
	exitDiffers = 1 // diff: the kernel is not as it should be
	exitFault   = 2 // the command line, the source or the kernel cannot be read
)

// exitError is an error with an exit code of its own. Without a cause there is
// nothing more to say.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// ExitCode returns the exit code that Run is to return.
func (e *exitError) ExitCode() int { return e.code }

// lookingCommand resolves the options before a command runs, and gives all its faults
// the exit code 2.
func lookingCommand(cmd *cobra.Command, o *wantOptions) *cobra.Command {
	fault := func(err error) error {
		var coded *exitError
		if err == nil || errors.As(err, &coded) {
			return err
		}
		return &exitError{exitFault, err}
	}
	args, run := cmd.Args, cmd.RunE
	cmd.Args = func(cmd *cobra.Command, a []string) error { return fault(args(cmd, a)) }
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		say := func(note string) { fmt.Fprintln(cmd.ErrOrStderr(), "nftproxy:", note) }
		if err := o.resolve(cmd.Flags(), "/", say); err != nil {
			return fault(err)
		}
		return fault(run(cmd, a))
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fault(err) })
	return cmd
}

// sourceName says where Services come from, for messages.
func (o *wantOptions) sourceName() string {
	if o.source.manifests != "" {
		return o.source.manifests
	}
	return "the cluster"
}

// listTimeout is how long a source may take for its first lists.
const listTimeout = time.Minute

// snapshot runs a proxier on a kernel in memory until it has programmed the
// source's first lists: the same code that programs a node. It knows the addresses of
// the node as `nftproxy run` does, if it runs on it: with live it surely does. seen, if
// not nil, keeps more of what the source tells.
func (o *wantOptions) snapshot(ctx context.Context, live bool, seen *seen, stderr io.Writer) (proxier.Snapshot, error) {
	config, err := o.proxierConfig()
	if err != nil {
		return proxier.Snapshot{}, err
	}
	warn := func(err error) { tell(stderr, err) }
	here := &machine{node: config.NodeName}
	here.elsewhere.Store(!live && !o.isHere())
	here.Watcher, err = nodeaddr.Watch(ctx, warn)
	switch {
	case err == nil:
		defer here.Watcher.Close()
		config.Addresses = here
	case live, ctx.Err() != nil:
		return proxier.Snapshot{}, err
	case !here.elsewhere.Load() && runtime.GOOS == "linux":
		warn(err)
	}
	o.source.apiServers = &apiServers{}
	src, err := o.open(config.NodeName, warn)
	if err != nil {
		return proxier.Snapshot{}, err
	}
	defer progress(stderr, "reading Services and EndpointSlices from "+o.sourceName())()
	stopped := ctx
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	config.Kernel = &memoryKernel{state: rules.State{Name: config.Rules.Table}}
	if seen != nil {
		config.Events = seen
	}
	p := proxier.New(config)
	o.source.apiServers.follow(p.SetAPIServers)
	var sink source.Sink = p
	if config.Addresses != nil && !live {
		here.Sink, sink = sink, here
	}
	if seen != nil {
		seen.Sink, sink = sink, seen
	}
	err = runTogether(ctx, p.Run,
		func(ctx context.Context) error { return src.Run(ctx, sink) },
		func(ctx context.Context) error {
			select {
			case <-p.Synced():
				return nil
			case <-ctx.Done():
				if errors.Is(ctx.Err(), context.DeadlineExceeded) {
					return fmt.Errorf("get Services and EndpointSlices from %s: not all came in %v: is it reachable?", o.sourceName(), listTimeout)
				}
				return nil // the source says why, or the user knows
			}
		})
	if err == nil {
		err = stopped.Err()
	}
	if err != nil {
		return proxier.Snapshot{}, err
	}
	return p.Snapshot(), nil
}

// memoryKernel holds tables in memory, for one caller at a time.
type memoryKernel struct{ state rules.State }

func (m *memoryKernel) Read(string) (rules.State, error) { return m.state, nil }

func (m *memoryKernel) Scan(_ string, things []rules.Thing, to rules.Parts) error {
	m.state.Scan(things, to)
	return nil
}

func (m *memoryKernel) Apply(tx rules.Tx) error {
	state, err := m.state.Apply(tx)
	if err == nil {
		m.state = state
	}
	return err
}

// readKernel reads this node's tables.
func readKernel(table string) (rules.State, error) {
	k, err := kernel.Open()
	if err != nil {
		return rules.State{}, err
	}
	defer func() { _ = k.Close() }()
	state, err := k.ReadListing(table)
	if err == nil && state.Tables == [2]*rules.Table{} {
		err = fmt.Errorf("this node has no table named %s: is nftproxy running here?", table)
	}
	return state, err
}

// parseService reads NAMESPACE/NAME.
func parseService(text string) (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(text, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return "", "", fmt.Errorf("%q is not a Service: give NAMESPACE/NAME, such as default/web", text)
	}
	return namespace, name, nil
}

// ownedBy returns the objects of a Service; none if there is no such Service.
func ownedBy(s *proxier.Snapshot, namespace, name string) []rules.Owned {
	var out []rules.Owned
	for i := range s.Ports {
		if p := &s.Ports[i]; p.Name.Namespace == namespace && p.Name.Name == name {
			out = append(out, rules.Owned{Owner: p.Owner(), Objects: p.Objects})
		}
	}
	return out
}

// isTerminal says whether somebody sees what is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// progress says on a terminal what takes long, and returns what wipes it out.
func progress(w io.Writer, what string) (done func()) {
	if !isTerminal(w) {
		return func() {}
	}
	fmt.Fprintf(w, "nftproxy: %s ...", printable.Line(what))
	return func() { fmt.Fprint(w, "\r\x1b[K") }
}

// colours writes in colours, on a terminal and without NO_COLOR only.
type colours struct{ on bool }

func coloursFor(w io.Writer) colours {
	return colours{on: isTerminal(w) && os.Getenv("NO_COLOR") == ""}
}

func (c colours) paint(code, text string) string {
	if !c.on {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (c colours) red(text string) string    { return c.paint("31", text) }
func (c colours) green(text string) string  { return c.paint("32", text) }
func (c colours) yellow(text string) string { return c.paint("33", text) }
func (c colours) bold(text string) string   { return c.paint("1", text) }
