// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/nftproxy/nftproxy/proxier/apiclient"
)

// program is where the image has nftproxy.
const program = "/nftproxy"

// Cluster is how pods are reached.
type Cluster struct {
	Config *rest.Config
	Client *apiclient.Client
}

// Streams are those of a command that runs elsewhere.
type Streams struct {
	// In is nil where the command has no input. Where it has, its end there is how the command hears that nobody listens any more.
	In       io.Reader
	Out, Err io.Writer
	// Sizes tells the size of the terminal that In and Out are; nil: they are none. Err has nothing then.
	Sizes remotecommand.TerminalSizeQueue
}

// Run runs nftproxy with arguments in its pod, and returns its exit code. An error says that it could not be run, or be followed to
// its end.
func (c *Cluster) Run(ctx context.Context, p Pod, args []string, s Streams) (code int, err error) {
	e := &apiclient.Exec{Namespace: p.Namespace, Pod: p.Name, Container: container, Command: append([]string{program}, args...)}
	if code, err = c.exec(ctx, e, s); err != nil {
		return 0, fmt.Errorf("run nftproxy in pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	return code, nil
}

// exec runs a command.
func (c *Cluster) exec(ctx context.Context, e *apiclient.Exec, s Streams) (code int, err error) {
	e.Input, e.Terminal = s.In != nil, s.Sizes != nil
	at := c.Client.ExecURL(e)
	web, err := remotecommand.NewWebSocketExecutor(c.Config, "GET", at.String())
	if err != nil {
		return 0, err
	}
	old, err := remotecommand.NewSPDYExecutor(c.Config, "POST", at)
	if err != nil {
		return 0, err
	}
	// As kubectl: API servers before 1.31, and some proxies before them, speak SPDY alone.
	both, err := remotecommand.NewFallbackExecutor(web, old, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return 0, err
	}
	ctx = klog.NewContext(ctx, klog.Logger{}) // the library logs that a stream was ended, as it is each time
	// The library returns once ctx has ended, and copies on what comes still.
	out, errs := &gate{to: s.Out}, &gate{to: s.Err}
	defer out.shut()
	defer errs.shut()
	options := remotecommand.StreamOptions{Stdin: s.In, Stdout: out, Stderr: errs, Tty: e.Terminal, TerminalSizeQueue: s.Sizes}
	if e.Terminal {
		options.Stderr = nil
	}
	err = both.StreamWithContext(ctx, options)
	var exit exec.CodeExitError
	if errors.As(err, &exit) {
		return exit.Code, nil
	}
	return 0, err
}

// gate passes on what is written until it is shut.
type gate struct {
	mu sync.Mutex
	to io.Writer // nil: it is shut
}

// Write implements io.Writer.
func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.to == nil {
		return 0, io.ErrClosedPipe
	}
	return g.to.Write(p)
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.to = nil
}

// Heard returns an input without anything in it, which ends with ctx, and so lets a command know that nobody listens any more.
func Heard(ctx context.Context) io.Reader {
	in, end := io.Pipe()
	context.AfterFunc(ctx, func() { _ = end.Close() })
	return in
}
