// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Config says where a control plane runs.
type Config struct {
	// NetNS is a file descriptor of the network namespace that the servers
	// live in; loopback must be up there. Start takes a copy. 0 or less: the
	// namespace of the process.
	NetNS int
	// Address is where clients reach the API server, an address of NetNS. The
	// server also listens on the namespace's other addresses, unless it is
	// the process's own namespace. Default: 127.0.0.1.
	Address netip.Addr
	// Dir is where a temporary folder for data, keys and logs is made.
	// Default: the system's folder for temporary files.
	Dir string
	// Log gets a line for each step of Start. Default: none.
	Log io.Writer
	// Workloads is for a cluster with real kubelets: kube-scheduler runs, too, and
	// all controllers that DaemonSets, Deployments, Pods and Nodes need.
	Workloads bool
	// Servers is a program with the servers of another version of Kubernetes: see e2e/controlplane/versions. Default: this one.
	Servers string
	// ControllerArgs are further arguments of kube-controller-manager.
	ControllerArgs []string
}

// ControlPlane is a running control plane. Its methods may be called by
// several goroutines at once.
type ControlPlane struct {
	dir        string
	program    string // of the servers
	kubeconfig string
	rest       *rest.Config
	client     kubernetes.Interface
	ns         namespace
	authority  *authority
	at         endpoint
	spawner    *spawner
	stop       func() error

	mu        sync.Mutex
	processes []*process // in the order of their start
}

// endpoint is where the API server is.
type endpoint struct {
	bind  netip.Addr     // where it listens, possibly unspecified
	serve netip.AddrPort // how clients reach it
}

// readyTimeout is how long all servers together may take to become ready.
const readyTimeout = 3 * time.Minute

// Start starts etcd, the API server and the controllers, and returns when they
// work. If they do not within three minutes, or ctx ends before, everything is
// stopped and the error has the last lines of the servers' logs. Later, ctx
// has no effect: the caller must call Stop.
func Start(ctx context.Context, config Config) (*ControlPlane, error) {
	if name := os.Getenv(childEnv); name != "" {
		return nil, fmt.Errorf("start control plane: this process should be running %s: call RunChild first in main or TestMain", name)
	}
	ns, err := openNamespace(config.NetNS)
	if err != nil {
		return nil, fmt.Errorf("start control plane: %w", err)
	}
	cp := &ControlPlane{ns: ns, spawner: newSpawner(ns), program: "/proc/self/exe"}
	if config.Servers != "" {
		cp.program = config.Servers
	}
	cp.stop = sync.OnceValue(cp.shutdown)
	if err := cp.start(ctx, config); err != nil {
		err = fmt.Errorf("start control plane: %w\n%s", err, cp.Logs())
		return nil, errors.Join(err, cp.Stop())
	}
	return cp, nil
}

// Stop ends the servers, waits until they are gone, and removes their files.
// Further calls do nothing and return the same.
func (cp *ControlPlane) Stop() error { return cp.stop() }

func (cp *ControlPlane) shutdown() error {
	var errs []error
	for _, p := range slices.Backward(cp.running()) {
		errs = append(errs, p.kill())
	}
	cp.spawner.close()
	errs = append(errs, cp.ns.close())
	if cp.dir != "" {
		errs = append(errs, os.RemoveAll(cp.dir))
	}
	return errors.Join(errs...)
}

// Logs returns the last lines that each server wrote, for a failed test.
func (cp *ControlPlane) Logs() string {
	var b strings.Builder
	for _, p := range cp.running() {
		b.WriteString(p.tail())
	}
	return b.String()
}

func (cp *ControlPlane) start(ctx context.Context, config Config) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if !config.Address.IsValid() {
		config.Address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if config.Log == nil {
		config.Log = io.Discard
	}
	if err := cp.makeDir(config.Dir); err != nil {
		return err
	}
	var err error
	if cp.at, err = chooseEndpoint(cp.ns, config.Address); err != nil {
		return err
	}
	if err := cp.makeIdentities(); err != nil {
		return err
	}
	servers, err := cp.servers(config)
	if err != nil {
		return err
	}
	return cp.startServers(ctx, config.Log, servers)
}

// servers lists the servers in the order of their start.
func (cp *ControlPlane) servers(config Config) ([]server, error) {
	controllers, err := cp.MakeKubeconfig("system:kube-controller-manager")
	if err != nil {
		return nil, err
	}
	args := append(controllerArgs(controllers, config.Workloads), config.ControllerArgs...)
	list := []server{
		{name: etcdServer, ready: cp.etcdListens},
		{name: apiServer, args: apiServerArgs(cp.at), ready: cp.apiServerReady},
		{name: controllerServer, args: args, ready: cp.controllersWork},
	}
	if config.Workloads {
		scheduler, err := cp.MakeKubeconfig("system:kube-scheduler")
		if err != nil {
			return nil, err
		}
		// Its work shows when a Pod gets a node; nothing waits for it here.
		ready := func(context.Context) error { return nil }
		list = append(list, server{name: schedulerServer, args: schedulerArgs(scheduler), ready: ready})
	}
	return list, nil
}

// makeDir makes the folder of this control plane, with an absolute path.
func (cp *ControlPlane) makeDir(parent string) error {
	if parent == "" {
		parent = os.TempDir()
	}
	parent, err := filepath.Abs(parent)
	if err != nil {
		return fmt.Errorf("find the folder for temporary files: %w", err)
	}
	if cp.dir, err = os.MkdirTemp(parent, "controlplane-"); err != nil {
		return fmt.Errorf("make the control plane's folder: %w", err)
	}
	return nil
}

// makeIdentities writes the keys and certificates of the servers, and makes the
// administrator's kubeconfig and client.
func (cp *ControlPlane) makeIdentities() error {
	var err error
	if cp.authority, err = newAuthority(); err != nil {
		return err
	}
	if err := writeServerFiles(cp.dir, cp.authority, cp.at.serve.Addr()); err != nil {
		return fmt.Errorf("write the API server's keys: %w", err)
	}
	if cp.kubeconfig, err = cp.MakeKubeconfig("admin", "system:masters"); err != nil {
		return err
	}
	admin, err := cp.authority.client("admin", "system:masters")
	if err != nil {
		return err
	}
	cp.rest = restConfig(cp.ns, cp.at.serve, cp.authority, admin)
	if cp.client, err = kubernetes.NewForConfig(cp.rest); err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	return nil
}

// chooseEndpoint picks a free port. Only in a namespace made for tests does
// the API server listen on all addresses.
func chooseEndpoint(ns namespace, address netip.Addr) (endpoint, error) {
	candidates := []netip.Addr{address}
	if ns.foreign() {
		candidates = []netip.Addr{netip.IPv6Unspecified(), netip.IPv4Unspecified()}
	}
	var errs []error
	for _, bind := range candidates {
		port, err := ns.freePort(bind)
		if err == nil {
			return endpoint{bind: bind, serve: netip.AddrPortFrom(address, port)}, nil
		}
		errs = append(errs, err)
	}
	return endpoint{}, fmt.Errorf("find a free port for the API server: %w", errors.Join(errs...))
}
