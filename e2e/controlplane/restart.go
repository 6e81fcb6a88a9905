// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// RestartAPIServer ends the API server as a crash does and starts it again after a pause, at the same address
// and with what etcd has. It returns when the server works, at the latest after a minute. If ctx ends before, or
// with an error, there may be no API server. Nobody else calls this or Stop meanwhile.
func (cp *ControlPlane) RestartAPIServer(ctx context.Context, pause time.Duration) error {
	i := slices.IndexFunc(cp.running(), func(p *process) bool { return p.name == apiServer })
	if i < 0 {
		return fmt.Errorf("restart %s: it was never started", apiServer)
	}
	if err := cp.running()[i].kill(); err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	select {
	case <-time.After(pause):
	case <-ctx.Done():
		return fmt.Errorf("restart %s: %w", apiServer, context.Cause(ctx))
	}
	p, err := cp.startProcess(apiServer, apiServerArgs(cp.at))
	if err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	cp.mu.Lock()
	cp.processes[i] = p
	cp.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := waitReady(ctx, p, cp.apiServerReady); err != nil {
		return fmt.Errorf("restart: %w\n%s", err, p.tail())
	}
	return nil
}

// running returns the processes, in the order of their start.
func (cp *ControlPlane) running() []*process {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	return slices.Clone(cp.processes)
}
