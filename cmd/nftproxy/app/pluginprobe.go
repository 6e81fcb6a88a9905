// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/plugin"
	"github.com/nftproxy/nftproxy/printable"
)

// fromPod returns the pod that a command's probe is from; empty: it has none.
func fromPod(cmd *cobra.Command) string {
	if f := cmd.Flags().Lookup(fromPodFlag); f != nil {
		return f.Value.String()
	}
	return ""
}

// probeFromPod has a pod make a connection, as `kubectl exec` would, while nftproxy's pod on its node follows it: that one may not enter
// the pod's network namespace.
func (o *elsewhere) probeFromPod(cmd *cobra.Command, args []string, t *there) error {
	ctx := cmd.Context()
	if !changed(cmd, "probe") {
		return errors.New("--from-pod: it goes with --probe; --from explains what a pod sees")
	}
	output := cmd.Flags().Lookup("output").Value.String()
	if err := textOrJSON(output); err != nil {
		return err
	}
	namespace, name := podName(fromPod(cmd), t.namespace)
	client, err := t.FindClient(ctx, namespace, name)
	if err != nil {
		return fmt.Errorf("--from-pod: %w", err)
	}
	if o.node != "" && o.node != client.Node {
		return fmt.Errorf("--from-pod: pod %s/%s runs on node %s, not on %s: leave --node out", client.Namespace, client.Name, client.Node, printable.Word(o.node))
	}
	pod, err := plugin.PodOn(ctx, t.Client, client.Node)
	if err != nil {
		return err
	}
	var addrs []string
	for _, a := range client.Addrs {
		addrs = append(addrs, a.String())
	}
	words := without(without(o.command(cmd, args, t), "output"), fromPodFlag)
	words = with(words, "--output=json", "--"+fromPodFlag+"="+strings.Join(addrs, ","), "--"+awaitFlag, "--"+untilEOF)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var out plugin.Bounded
	connecting, end := context.WithTimeout(ctx, podPatience)
	c := &connector{cluster: &t.Cluster, from: client, errs: cmd.ErrOrStderr(), end: end}
	defer c.end()
	code, err := t.Run(ctx, pod, words, plugin.Streams{In: plugin.Heard(ctx), Out: &out, Err: &waitReader{fn: func(to netip.AddrPort) { c.start(connecting, to) }, other: c.errs}})
	if err != nil || code != 0 {
		return ended(cmd.Context(), code, err)
	}
	found := explainedProbe{Explanation: &explain.Explanation{}}
	if err = json.Unmarshal(out.Bytes(), &found); err != nil || found.Probe == nil {
		return fmt.Errorf("read the explanation of node %s: %w", printable.Word(client.Node), errors.Join(err, io.ErrUnexpectedEOF))
	}
	time.AfterFunc(probePatience, c.end) // it saw what became of it there
	found.Probe.Client = c.wait()
	if to, perr := netip.ParseAddrPort(found.Probe.Endpoint); perr == nil && found.Probe.Client != "" {
		straight, cancel := context.WithTimeout(ctx, straightPatience)
		defer cancel()
		if saw, cerr := t.Connect(straight, client, to); cerr == nil {
			found.Probe.Direct = to.String() + ": " + saw
		}
	}
	printed := explainOptions{output: output, showRules: changed(cmd, "rules")}
	return printed.write(cmd.OutOrStdout(), found.Explanation, found.Probe)
}

// connector has a pod make a connection.
type connector struct {
	cluster *plugin.Cluster
	from    *plugin.Client
	errs    io.Writer
	end     context.CancelFunc
	once    sync.Once // it is made one
	done    sync.WaitGroup
	saw     string // read after wait
}

// straightPatience is how long a pod may take to say whether it can connect: several commands may be tried in it.
const straightPatience = 5 * time.Second

// start has it made.
func (c *connector) start(ctx context.Context, to netip.AddrPort) {
	c.once.Do(func() { c.done.Go(func() { c.connect(ctx, to) }) })
}

func (c *connector) connect(ctx context.Context, to netip.AddrPort) {
	saw, err := c.cluster.Connect(ctx, c.from, to)
	if err != nil {
		fmt.Fprintf(c.errs, "nftproxy: pod %s/%s: %s: connect from it to %s within %s\n", c.from.Namespace, c.from.Name, printable.Error(err), to, podPatience)
	}
	c.saw = saw
}

// wait returns what the pod saw; empty: it was not made to connect.
func (c *connector) wait() string {
	c.done.Wait()
	return c.saw
}

// waitReader takes from what a command says that it is waiting for a connection, and passes on all else.
type waitReader struct {
	fn    func(to netip.AddrPort)
	other io.Writer
	rest  []byte
}

// Write implements io.Writer.
func (r *waitReader) Write(p []byte) (int, error) {
	r.rest = append(r.rest, p...)
	for {
		line, rest, ok := bytes.Cut(r.rest, []byte("\n"))
		if !ok && len(r.rest) > plugin.LongestLine {
			line, rest, ok = r.rest, nil, true
		}
		if !ok {
			return len(p), nil
		}
		r.rest = rest
		if to, ok := waitsFor(string(line)); ok {
			r.fn(to)
		} else if _, err := io.WriteString(r.other, printable.Escaped(string(line))+"\n"); err != nil {
			return 0, err
		}
	}
}

// waitsFor reads what waitingText says.
func waitsFor(line string) (netip.AddrPort, bool) {
	var from, to string
	if n, err := fmt.Sscanf(line, "nftproxy: "+strings.ReplaceAll(waitingText, "/%s", ""), &from, &to); err != nil || n != 2 {
		return netip.AddrPort{}, false
	}
	at, _, _ := strings.Cut(to, "/")
	out, err := netip.ParseAddrPort(at)
	return out, err == nil
}
