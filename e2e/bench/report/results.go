// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// ResultsFile is the name of the file, inside a report's folder, that everything
// else there is made from.
const ResultsFile = "results.json"

// version is that of the file's format.
const version = 2

// Results are all samples of a run, and what they were measured on.
type Results struct {
	Version      int           `json:"version"`
	Began        time.Time     `json:"began"`
	Took         time.Duration `json:"took"` // nanoseconds of all steps, without pauses between a run and its continuation
	Plan         Plan          `json:"plan"`
	Machine      Machine       `json:"machine"`
	Steps        []string      `json:"steps"` // the names of those that ended, to go on after an interruption
	Measurements []Measurement `json:"measurements"`
	Failures     []Failure     `json:"failures,omitempty"`
}

// Plan is what is measured, and how often.
type Plan struct {
	Name      string `json:"name"`      // full, quick or smallest
	Sizes     []int  `json:"sizes"`     // numbers of Services
	Endpoints int    `json:"endpoints"` // of each Service
	Rounds    int    `json:"rounds"`    // in each, all peers; every second in reverse order
	Changes   int    `json:"changes"`   // single changes in a round
	Burst     int    `json:"burst"`     // Services that are changed at once
	Connects  int    `json:"connects"`  // to each target, in a round
	Spread    int    `json:"spread"`    // connections of the fairness measurement
	// Seconds is how long each measurement goes on that counts what passes in a time.
	Seconds float64 `json:"seconds"`
	// ControlSizes are those of Sizes at which the control plane is measured, DataSizes those
	// with the data plane, DisruptionSizes those with connections during restarts and changes,
	// RollSizes those with a rolling update.
	ControlSizes    []int `json:"controlSizes"`
	DataSizes       []int `json:"dataSizes"`
	DisruptionSizes []int `json:"disruptionSizes"`
	RollSizes       []int `json:"rollSizes"`
}

// Machine is where a run took place.
type Machine struct {
	CPU        string            `json:"cpu"`
	Cores      int               `json:"cores"`
	MemoryMB   int               `json:"memoryMB"`
	Kernel     string            `json:"kernel"`
	OS         string            `json:"os"`
	Go         string            `json:"go"`
	Kubernetes string            `json:"kubernetes"`
	Commit     string            `json:"commit"`   // of nftproxy
	Programs   map[string]string `json:"programs"` // what nft --version and its like say
}

// The peers. Those that run are in the order of tables and plots.
const (
	Nftproxy          = "nftproxy"
	KubeProxyNftables = "kube-proxy nftables"
	KubeProxyIptables = "kube-proxy iptables"
	// Failover is nftproxy with --failover, of which only the data plane is measured: what packets pay for it.
	Failover = "nftproxy --failover"
	// Floor is the time that the kernel takes for nftproxy's rules.
	Floor = "the kernel alone"
)

// Peers returns the proxies that are compared in everything.
func Peers() []string { return []string{Nftproxy, KubeProxyNftables, KubeProxyIptables} }

// Measurement is a number of samples of one thing, taken in one round.
type Measurement struct {
	Metric   string    `json:"metric"` // the Name of one of Metrics
	Peer     string    `json:"peer"`
	Services int       `json:"services"`
	Target   string    `json:"target,omitempty"` // see the metric
	Round    int       `json:"round"`            // from 0
	Samples  []float64 `json:"samples"`          // in the metric's unit, in the order they were taken
}

// Failure is something that could not be measured.
type Failure struct {
	Peer     string `json:"peer"`
	Services int    `json:"services"`
	Step     string `json:"step"`
	Error    string `json:"error"`
	// TooSlow says that the proxy did not make it in time, and so would not with more Services.
	TooSlow bool `json:"tooSlow,omitempty"`
}

// NotTried is the step of a failure where a proxy was too slow with fewer Services.
const NotTried = "not tried"

// Metric is a kind of measurement.
type Metric struct {
	Name   string
	Title  string
	Unit   string
	Group  string // Control, Data, Fairness or Disruption
	Higher bool   // more is better
	Help   string // how it is measured
}

// The groups of metrics.
const (
	Control    = "Control plane"
	Data       = "Data plane"
	Fairness   = "Fairness"
	Disruption = "Disruption"
)

// Targets of the data plane are an origin (pod/ or node/) and one of these: a backend of
// the twin network, whose node has no rules; past all rules the backend itself; or the
// first, middle or last Service. Measurements that use several Services at once call them
// service.
const (
	FromPod  = "pod/"
	FromNode = "node/"
	Without  = "without"
	OneRule  = "one rule"
	Direct   = "direct"
	First    = "first"
	Middle   = "middle"
	Last     = "last"
	Service  = "service"
)

// Scheduler and one of Schedulers is a target of fairness: without it the proxy's own choice counts.
const Scheduler = "scheduler/"

// Schedulers are those of nftproxy's whose shares are measured: all but client-hash, as there is one client.
func Schedulers() []string {
	return []string{"round-robin", "random", "source-hash", "maglev", "least-connections"}
}

// Targets of disruption.
const (
	Restart  = "restart"  // the proxy is killed and started again
	Backends = "backends" // endpoints come and go
)

// Metrics returns all kinds of measurements in the order of a report.
func Metrics() []Metric {
	return []Metric{
		{"start", "Start", "s", Control, false, "from the start of the process, with nothing programmed, until connections to Services all over the list are answered; the kernel alone is its own time for nftproxy's rules, ready-made, in batches of 1 MiB"},
		{"late", "Services still missing then", "Services", Control, false, "Services that were not answered at the first attempt, once all are tried right after"},
		{"start-user", "CPU time of the start, user", "s", Control, false, "of the process and the programs it ran"},
		{"start-system", "CPU time of the start, system", "s", Control, false, "of the process and the programs it ran"},
		{"restart", "Restart", "s", Control, false, "from the start of the process, with everything in place, until an endpoint that was replaced while it was away is replaced for packets"},
		{"change", "One endpoint replaced", "ms", Control, false, "from the API call to a connection that is answered by the new endpoint, after a quiet second: kube-proxy, which syncs at most once a second, does not wait"},
		{"change-cpu", "CPU time of one change", "ms", Control, false, "of the process and the programs it ran, and in the quiet second"},
		{"burst", "A burst of changes", "ms", Control, false, "from the API server's last answer until connections to each of the Services are answered by a new endpoint; kube-proxy, which syncs at most once a second, may wait for that"},
		{"burst-cpu", "CPU time of a burst", "s", Control, false, "of the process and the programs it ran"},
		{"roll-change", "One change during a rolling update", "ms", Control, false, "as one endpoint replaced, while 333 EndpointSlices a second are updated"},
		{"roll-cpu", "CPU during a rolling update", "%", Control, false, "of one core"},
		{"idle-cpu", "Idle CPU", "%", Control, false, "of one core, while nothing changes"},
		{"memory", "Memory", "MB", Control, false, "resident, ten seconds after the last change (five in a quick run); Go gives what it no longer needs back within minutes"},
		{"memory-peak", "Memory, peak", "MB", Control, false, "resident, at most"},
		{"memory-programs", "Memory of programs it runs, peak", "MB", Control, false, "resident, the largest of nft, iptables-restore and their like; 0: none runs"},
		{"memory-kernel", "Kernel memory per Service", "B", Control, false, "charged to the proxy's control group"},
		{"connect", "New connection", "us", Data, false, "TCP handshake; the targets in turn"},
		{"rate", "New connections a second", "1/s", Data, true, "16 clients at once"},
		{"rate-cpu", "CPU time of one of these connections", "us", Data, false, "of client, backend and kernel together"},
		{"rate-failed", "Failed meanwhile", "connections", Data, false, "refused, or without an answer for 3 s"},
		{"throughput", "Throughput", "Gbit/s", Data, true, "one established TCP connection"},
		{"throughput-cpu", "CPU time of a gigabit", "ms", Data, false, "of client, backend and kernel together"},
		{"packets", "Packets a second", "1/s", Data, true, "one established UDP flow of 64-byte packets, as received"},
		{"spread", "Connections per backend", "connections", Fairness, false, "one sample for each backend of a Service; kube-proxy chooses by chance, nftproxy as the scheduler says, which is round-robin by default"},
		{"attempts", "Attempts", "connections", Disruption, false, "at 500 a second"},
		{"failed", "Failed", "connections", Disruption, false, "refused, or without an answer for 3 s"},
		{"stalled", "Stalled", "connections", Disruption, false, "answered after more than 200 ms"},
		{"longest", "Longest wait", "ms", Disruption, false, "of a connection that was answered"},
		{"removed", "Sent to a removed backend", "connections", Disruption, false, "begun after the API server had confirmed that the endpoint is gone"},
		{"removed-longest", "Longest time after the removal", "ms", Disruption, false, "of a connection to a removed backend"},
	}
}

// MetricNamed returns one of Metrics.
func MetricNamed(name string) (Metric, bool) {
	all := Metrics()
	i := slices.IndexFunc(all, func(m Metric) bool { return m.Name == name })
	if i < 0 {
		return Metric{}, false
	}
	return all[i], true
}

// Samples returns those of all rounds.
func (r *Results) Samples(metric, peer string, services int, target string) []float64 {
	var out []float64
	for _, m := range r.Measurements {
		if m.Metric == metric && m.Peer == peer && m.Services == services && m.Target == target {
			out = append(out, m.Samples...)
		}
	}
	return out
}

// Load reads a results file.
func Load(file string) (*Results, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	r := &Results{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read results %s: %w", file, err)
	}
	if r.Version != version {
		return nil, fmt.Errorf("read results %s: it has version %d of the format; this program reads %d", file, r.Version, version)
	}
	return r, nil
}

// Save writes the results to a file in the folder, in one step: an interruption
// leaves the old file or the new one.
func (r *Results) Save(dir string) error {
	r.Version = version
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	// A line for each measurement: as long as that, and no longer. A quote inside a string is escaped.
	text = bytes.ReplaceAll(text, []byte(`{"metric":`), []byte("\n{\"metric\":"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	file := filepath.Join(dir, ResultsFile)
	if err := os.WriteFile(file+".new", append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}
