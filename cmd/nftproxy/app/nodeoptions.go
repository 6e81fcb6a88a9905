// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
)

// nodeOptions says what of the node serves Services, and for whom. The names and
// meanings of flags that kube-proxy has, too, are kube-proxy's.
type nodeOptions struct {
	nodeIPs           []string
	bindAddress       string // kube-proxy's name for one of nodeIPs
	nodePortAddresses []string
	detectLocalMode   string
	bridgeInterface   string
	interfacePrefix   string
	scheduler         string
	affinitySize      uint32
	featureGates      map[string]bool
}

// The values of --detect-local-mode.
const (
	detectClusterCIDR     = "ClusterCIDR"
	detectNodeCIDR        = "NodeCIDR"
	detectBridgeInterface = "BridgeInterface"
	detectInterfacePrefix = "InterfaceNamePrefix"
)

// gateExternalIPs is the feature gate that lets Services have externalIPs (KEP-5707).
const gateExternalIPs = "AllowServiceExternalIPs"

func (o *nodeOptions) add(fs *pflag.FlagSet) {
	fs.StringSliceVar(&o.nodeIPs, "node-ip", nil, "this node's `addresses`, one of each family (default: the Node object's)")
	fs.StringSliceVar(&o.nodePortAddresses, "nodeport-addresses", nil, "where NodePorts are served: `CIDRs` of the node's addresses, primary (the Node object's addresses, the default), all, or localhost")
	fs.StringVar(&o.detectLocalMode, "detect-local-mode", detectClusterCIDR, "`how` pods are told from others: ClusterCIDR (--cluster-cidr), NodeCIDR (the Node object's podCIDRs), BridgeInterface or InterfaceNamePrefix")
	fs.StringVar(&o.bridgeInterface, "pod-bridge-interface", "", "`name` of the bridge that pods are behind, for BridgeInterface")
	fs.StringVar(&o.interfacePrefix, "pod-interface-name-prefix", "", "what the `names` of pods' interfaces begin with, for InterfaceNamePrefix")
	fs.StringVar(&o.scheduler, "scheduler", rules.RoundRobin.String(), "`how` connections are spread: round-robin, random or source-hash; a Service's annotation "+proxier.SchedulerAnnotation+" overrides it")
	fs.Uint32Var(&o.affinitySize, "affinity-size", rules.DefaultAffinitySize, "greatest `number` of clients that a service port with session affinity remembers")
	fs.Var(cliflag.NewMapStringBool(&o.featureGates), "feature-gates", "`gates`=true|false; known: "+gateExternalIPs+"; kube-proxy's others are taken and mean nothing")
}

// apply checks the options and sets what they say; all that is wrong with them is
// in one error.
func (o *nodeOptions) apply(c *proxier.Config) error {
	var errs []error
	if a, err := netip.ParseAddr(o.bindAddress); err == nil && !a.IsUnspecified() {
		c.NodeIPs = append(c.NodeIPs, a.Unmap())
	} else if err != nil && o.bindAddress != "" {
		errs = append(errs, fmt.Errorf("--bind-address: %q is not an IP address", o.bindAddress))
	}
	for _, s := range o.nodeIPs {
		a, err := netip.ParseAddr(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("--node-ip: %q is not an IP address", s))
			continue
		}
		c.NodeIPs = append(c.NodeIPs, a.Unmap())
	}
	var err error
	c.NodePorts, err = o.nodePorts()
	errs = append(errs, err, o.detectLocal(c))
	o.gates(c)
	c.Rules.AllNodePortIPs = c.NodePorts.Everything()
	scheduler, ok := rules.ParseScheduler(o.scheduler)
	if !ok {
		errs = append(errs, fmt.Errorf("--scheduler: %q is none of round-robin, random, source-hash", o.scheduler))
	}
	c.Scheduler = scheduler
	if c.Rules.AffinitySize = o.affinitySize; o.affinitySize == 0 {
		errs = append(errs, errors.New("--affinity-size: 0 would remember nobody: give a number above it"))
	}
	return errors.Join(errs...)
}

// nodePorts reads --nodeport-addresses.
func (o *nodeOptions) nodePorts() (proxier.NodePortAddresses, error) {
	var a proxier.NodePortAddresses
	var errs []error
	for _, s := range o.nodePortAddresses {
		switch s = strings.TrimSpace(s); s {
		case "primary":
			a.Primary = true
		case "all":
			a.All = true
		case "localhost":
			a.Localhost = true
		default:
			p, err := netip.ParsePrefix(s)
			switch {
			case err != nil:
				errs = append(errs, fmt.Errorf("--nodeport-addresses: %q is neither a CIDR nor one of primary, all, localhost", s))
			case p.Addr().IsLoopback():
				a.Localhost = true
			default:
				a.CIDRs = append(a.CIDRs, p.Masked())
			}
		}
	}
	return a, errors.Join(errs...)
}

// detectLocal reads --detect-local-mode and what belongs to it.
func (o *nodeOptions) detectLocal(c *proxier.Config) error {
	switch o.detectLocalMode {
	case detectClusterCIDR, "":
	case detectNodeCIDR:
		c.DetectNodeCIDR = true
		c.Rules.PodCIDRs = nil
	case detectBridgeInterface:
		return podInterface(&c.Rules.PodInterface, o.bridgeInterface, "", "--pod-bridge-interface")
	case detectInterfacePrefix:
		return podInterface(&c.Rules.PodInterface, o.interfacePrefix, "*", "--pod-interface-name-prefix")
	default:
		return fmt.Errorf("--detect-local-mode: %q is none of %s, %s, %s, %s", o.detectLocalMode,
			detectClusterCIDR, detectNodeCIDR, detectBridgeInterface, detectInterfacePrefix)
	}
	return nil
}

func podInterface(to *string, name, suffix, flag string) error {
	const longest = 15 // IFNAMSIZ with its end mark is 16
	if name == "" || len(name) > longest || strings.ContainsAny(name, "/*\" \t\n") {
		return fmt.Errorf("%s: %q is not the name of an interface: give one of at most %d characters", flag, name, longest)
	}
	*to = name + suffix
	return nil
}

// gates reads --feature-gates. kube-proxy's others change nothing here.
func (o *nodeOptions) gates(c *proxier.Config) {
	for gate, on := range o.featureGates {
		if gate == gateExternalIPs {
			c.NoExternalIPs = !on
			continue
		}
		klog.V(1).InfoS("A feature gate is not one of nftproxy's", "gate", gate)
	}
}
