// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/nftproxy/nftproxy/proxier/apiclient"
)

// program is where the image has nftproxy.
const program = "/nftproxy"

// Run runs nftproxy with arguments in a pod, and returns its exit code. An error says that it could not be run, or be followed to its
// end.
func Run(ctx context.Context, config *rest.Config, client *apiclient.Client, p Pod, args []string, stdout, stderr io.Writer) (code int, err error) {
	at := client.ExecURL(p.Namespace, p.Name, container, append([]string{program}, args...))
	failed := func(err error) (int, error) {
		return 0, fmt.Errorf("run nftproxy in pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	web, err := remotecommand.NewWebSocketExecutor(config, "GET", at.String())
	if err != nil {
		return failed(err)
	}
	old, err := remotecommand.NewSPDYExecutor(config, "POST", at)
	if err != nil {
		return failed(err)
	}
	// As kubectl: API servers before 1.31, and some proxies before them, speak SPDY alone.
	both, err := remotecommand.NewFallbackExecutor(web, old, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return failed(err)
	}
	err = both.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: stdout, Stderr: stderr})
	var exit exec.CodeExitError
	switch {
	case errors.As(err, &exit):
		return exit.Code, nil
	case err != nil:
		return failed(err)
	}
	return 0, nil
}
