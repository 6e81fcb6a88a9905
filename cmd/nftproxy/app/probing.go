// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/rules"
)

// probing says from where a probe is sent.
type probing struct {
	probes  bool
	netns   string       // from there
	fromPod podValue     // from this pod
	await   bool         // which makes the connection itself
	addrs   []netip.Addr // that it has
}

// The flags that kubectl's plugin knows, too.
const (
	fromPodFlag = "from-pod"
	awaitFlag   = "await"
)

// podValue is the value of --from-pod: addresses, NAME or NAMESPACE/NAME.
type podValue string

// Set implements pflag.Value. An empty value is no pod: to probe from here instead would be an answer to another question.
func (v *podValue) Set(text string) error {
	if namespace, name, ok := strings.Cut(text, "/"); text == "" || ok && (namespace == "" || name == "" || strings.Contains(name, "/")) {
		return errors.New("it is no pod: give its NAMESPACE/NAME, its NAME with --namespace, or its address")
	}
	*v = podValue(text)
	return nil
}

// String implements pflag.Value.
func (v *podValue) String() string { return string(*v) }

// Type implements pflag.Value.
func (v *podValue) Type() string { return "pod" }

// explainedProbe is an explanation and a probe, as JSON.
type explainedProbe struct {
	*explain.Explanation
	Probe *probe `json:"probe,omitempty"`
}

func (o *probing) addProbe(fs *pflag.FlagSet) {
	fs.BoolVar(&o.probes, "probe", false, "send one real connection to the first address from here, follow it through every table of every program, and say what became of it; over UDP an empty datagram")
	fs.StringVar(&o.netns, "netns", "", "`file` of the network namespace that --probe connects from, such as /run/netns/NAME or /proc/PID/ns/net (default: this one)")
	fs.Var(&o.fromPod, fromPodFlag, "`pod` of this node that --probe connects from: its NAMESPACE/NAME, its NAME with --namespace, or its address")
	fs.BoolVar(&o.await, awaitFlag, false, "wait for a connection that the pod makes")
	fs.Lookup(awaitFlag).Hidden = true
}

func (o *probing) check() error {
	switch {
	case o.fromPod != "" && o.netns != "":
		return errors.New("--from-pod and --netns do not go together: give one")
	case o.netns != "" && !o.probes:
		return errors.New("--netns: it goes with --probe")
	case o.fromPod != "" && !o.probes:
		return errors.New("--from-pod: it goes with --probe; --from explains what a pod sees")
	case o.await && o.fromPod == "":
		return errors.New("--await: it goes with --from-pod")
	}
	return nil
}

// waitingText is what is said once a pod may make its connection; kubectl's plugin reads it.
const waitingText = "waiting for a connection from %s to %s/%s"

// probe sends a connection to what was explained.
func (o *probing) probe(ctx context.Context, table string, names serviceNames, e *explain.Explanation, stderr io.Writer) (*probe, error) {
	p := prober{table: table, names: names, netns: o.netns}
	switch {
	case o.await:
		p.pod = o.addrs
		p.waiting = func(from netip.Addr, to rules.Frontend) {
			fmt.Fprintf(stderr, "nftproxy: "+waitingText+"\n", from, to.At(), to.Protocol)
		}
	case o.fromPod != "":
		var err error
		if p.netns, err = netnsWith("/", o.addrs); err != nil {
			return nil, fmt.Errorf("--from-pod: pod %s: %w", printable.Word(o.fromPod.String()), err)
		}
	}
	return p.run(ctx, e)
}
