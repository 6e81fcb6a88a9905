// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// Annotations of Services.
const (
	// SchedulerAnnotation overrides the default scheduler.
	SchedulerAnnotation = "nftproxy.io/scheduler"
	// MaglevSizeAnnotation overrides the default size of tables.
	MaglevSizeAnnotation = "nftproxy.io/maglev-table-size"
	// LocalWeightAnnotation and ZoneWeightAnnotation are rules.Policies' weights.
	LocalWeightAnnotation = "nftproxy.io/local-weight"
	ZoneWeightAnnotation  = "nftproxy.io/zone-weight"
	// SlowStartAnnotation is how long the share of a new endpoint grows.
	SlowStartAnnotation = "nftproxy.io/slow-start"
	// SettleAnnotation is how long a new endpoint gets no connections, while others can.
	SettleAnnotation = "nftproxy.io/settle"
	// RangesPolicyAnnotation says whether loadBalancerSourceRanges are those that may connect, or those that may not.
	RangesPolicyAnnotation = "nftproxy.io/src-ranges-policy"
	// NodeSelectorAnnotation selects the nodes that serve the Service.
	NodeSelectorAnnotation = "nftproxy.io/node-selector"
	// FailoverAnnotation, "true" or "false", overrides whether the Service has failover.
	FailoverAnnotation = "nftproxy.io/failover"
	// TypeAnnotation lists where the Service is served.
	TypeAnnotation = "nftproxy.io/type"
)

// WeightAnnotation on an EndpointSlice is the weight of its endpoints, from 0 to rules.MaxWeight.
const WeightAnnotation = "nftproxy.io/weight"

// likewise has Cilium's annotations, which count where ours is absent.
var likewise = map[string]string{
	SchedulerAnnotation:    "service.cilium.io/lb-algorithm",
	WeightAnnotation:       "service.cilium.io/weight",
	RangesPolicyAnnotation: "service.cilium.io/src-ranges-policy",
	NodeSelectorAnnotation: "service.cilium.io/node-selector",
	TypeAnnotation:         "service.cilium.io/type",
}

// The longest and the shortest slow start.
const (
	minSlowStart = time.Second
	maxSlowStart = time.Hour
)

// The longest and the shortest time that endpoints settle.
const (
	minSettle = 100 * time.Millisecond
	maxSettle = 10 * time.Minute
)

// choices is what a Service's annotations say of it, besides its policies.
type choices struct {
	slowStart time.Duration // 0: none
	settle    time.Duration // before that; 0: none
	nodes     string        // a label selector; empty: all
	// noClusterIP says that the Service is not served at its ClusterIPs.
	noClusterIP bool
}

// annotation returns the value of an annotation, and its name: ours, or Cilium's where ours is absent.
func annotation(all map[string]string, name string) (value, found string) {
	for _, key := range []string{name, likewise[name]} {
		if value, ok := all[key]; ok && key != "" {
			return strings.TrimSpace(value), key
		}
	}
	return "", ""
}

// convertChoices reads a Service's annotations, after all else. What is wrong leaves the default.
func convertChoices(s *corev1.Service, out *service, o serviceOptions, fault func(reason.Code, ...any)) {
	if len(s.Annotations) == 0 {
		return
	}
	p := &out.policies
	for _, a := range []struct {
		name string
		read func(text string) (string, error) // what is used instead, and what is wrong
	}{
		{MaglevSizeAnnotation, func(text string) (string, error) {
			size, err := strconv.ParseUint(text, 10, 16)
			if err != nil || !rules.IsMaglevSize(int(size)) {
				return strconv.Itoa(int(o.tableSize)), fmt.Errorf("%q is no prime from %d to %d", text, rules.MinMaglevSize, rules.MaxMaglevSize)
			}
			p.TableSize = uint16(size)
			return "", nil
		}},
		{LocalWeightAnnotation, func(text string) (string, error) { return "1", readWeight(text, 1, &p.LocalWeight) }},
		{ZoneWeightAnnotation, func(text string) (string, error) { return "1", readWeight(text, 1, &p.ZoneWeight) }},
		{SlowStartAnnotation, func(text string) (string, error) {
			return "0s", readDuration(text, minSlowStart, maxSlowStart, &out.choices.slowStart)
		}},
		{SettleAnnotation, func(text string) (string, error) {
			return "0s", readDuration(text, minSettle, maxSettle, &out.choices.settle)
		}},
		{NodeSelectorAnnotation, out.choices.readSelector},
		{TypeAnnotation, out.readTypes},
	} {
		text, name := annotation(s.Annotations, a.name)
		if name == "" {
			continue
		}
		if used, err := a.read(text); err != nil {
			fault(reason.BadAnnotation, name, err, used)
		}
	}
	if schedulers := p.Scheduler; schedulers.Alike() && (p.LocalWeight > 1 || p.ZoneWeight > 1) {
		fault(reason.UselessWeight, schedulers)
	}
}

// convertScheduler reads which scheduler a Service chooses.
func convertScheduler(s *corev1.Service, out *service, o serviceOptions, fault func(reason.Code, ...any)) {
	text, name := annotation(s.Annotations, SchedulerAnnotation)
	if name == "" {
		return
	}
	scheduler, err := rules.ParseScheduler(text)
	if err != nil {
		fault(reason.UnknownScheduler, name, err, o.scheduler)
		return
	}
	out.policies.Scheduler = scheduler
}

// readWeight reads a weight.
func readWeight(text string, least uint64, to *uint16) error {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n < least {
		return fmt.Errorf("%q is no number from %d to %d", text, least, rules.MaxWeight)
	}
	*to = uint16(n)
	return nil
}

// readDuration reads a time within limits, or 0.
func readDuration(text string, least, most time.Duration, to *time.Duration) error {
	d, err := time.ParseDuration(text)
	if err != nil || d != 0 && d < least || d > most {
		return fmt.Errorf("%q is no time from %s to %s, such as 5s", text, least, most)
	}
	*to = d
	return nil
}

// mostRequirements is how many requirements a selector may have: all of them are looked at whenever the Node changes.
const mostRequirements = 32

// readSelector reads which nodes serve a Service.
func (c *choices) readSelector(text string) (string, error) {
	selector, err := labels.Parse(text)
	if err != nil {
		return "the default (all nodes)", errors.New("it is no label selector, such as 'ingress in (a, b)'")
	}
	if all, _ := selector.Requirements(); len(all) > mostRequirements {
		return "the default (all nodes)", fmt.Errorf("it has %d requirements, more than %d", len(all), mostRequirements)
	}
	if !selector.Empty() {
		c.nodes = text
	}
	return "", nil
}

// match says whether the Service is for a node with such labels.
func (c *choices) match(node labels.Set) bool {
	selector, err := labels.Parse(c.nodes)
	return err != nil || selector.Matches(node)
}

// readTypes reads where a Service is served, and takes the rest away.
func (s *service) readTypes(text string) (string, error) {
	served := map[string]bool{}
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSuffix(strings.ToLower(strings.TrimSpace(word)), "s")
		switch word {
		case "clusterip", "nodeport", "loadbalancer", "externalip":
			served[word] = true
		default:
			return "the default (all of them)", errors.New("it is no list of ClusterIP, NodePort, LoadBalancer and ExternalIP")
		}
	}
	s.choices.noClusterIP = !served["clusterip"]
	if !served["loadbalancer"] {
		s.loadBalancers = [2][]netip.Addr{}
	}
	if !served["externalip"] {
		s.externalIPs = [2][]netip.Addr{}
	}
	if !served["nodeport"] {
		for i := range s.ports {
			s.ports[i].nodePort = 0
		}
	}
	return "", nil
}
