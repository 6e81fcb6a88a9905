// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// server is one process to start and how to find out that it works.
type server struct {
	name  string
	args  []string
	ready func(context.Context) error
}

// startServers starts each server when the one before it works.
func (cp *ControlPlane) startServers(ctx context.Context, log io.Writer, servers []server) error {
	for _, server := range servers {
		began := time.Now()
		p, err := cp.startProcess(server.name, server.args)
		if err != nil {
			return err
		}
		cp.mu.Lock()
		cp.processes = append(cp.processes, p)
		cp.mu.Unlock()
		if err := waitReady(ctx, p, server.ready); err != nil {
			return err
		}
		fmt.Fprintf(log, "%s: process %d, ready after %.1f s\n", p.name, p.cmd.Process.Pid, time.Since(began).Seconds())
	}
	return nil
}

// waitReady asks until the server works, is gone, or ctx ends.
func waitReady(ctx context.Context, p *process, ready func(context.Context) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended before it was ready: %v", p.name, p.err)
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last answer: %v)", p.name, context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

func (cp *ControlPlane) etcdListens(context.Context) error {
	_, err := os.Stat(filepath.Join(cp.dir, etcdSocket))
	return err
}

func (cp *ControlPlane) apiServerReady(ctx context.Context) error {
	return cp.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

// controllersWork looks for something that only a controller makes.
func (cp *ControlPlane) controllersWork(ctx context.Context) error {
	_, err := cp.client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
	return err
}
