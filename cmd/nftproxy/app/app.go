// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/sandbox"
)

// Main carries out the command line of this process, ends it cleanly on SIGTERM
// and SIGINT, and returns the exit code.
func Main(version string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	args := os.Args[1:]
	if filepath.Base(os.Args[0]) == "kubectl_complete-nftproxy" { // kubectl asks for completions
		args = append([]string{cobra.ShellCompRequestCmd}, args...)
	}
	root := rootCommand(version, sandbox.Enter)
	if isPlugin(os.Args[0]) {
		asPlugin(root)
	}
	return execute(ctx, root, args, os.Stdout, os.Stderr)
}

// Run carries out a command line and returns the exit code: 0, 1 where a command's help says so, 2 after any other error. The process
// keeps its rights.
func Run(ctx context.Context, version string, args []string, stdout, stderr io.Writer) int {
	return execute(ctx, rootCommand(version, nil), args, stdout, stderr)
}

func execute(ctx context.Context, cmd *cobra.Command, args []string, stdout, stderr io.Writer) int {
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	addHelp(cmd)
	err := checkCommandName(cmd, args)
	if err == nil {
		err = cmd.ExecuteContext(ctx)
	}
	if err != nil && err.Error() != "" {
		if errors.As(err, new(*loggedFault)) || wantsJSON(args) {
			tellJSON(stderr, err)
		} else {
			tell(stderr, err)
		}
	}
	return exitCode(err)
}

// wantsJSON says whether a command line wants the log as JSON. It need not be one that can be parsed: that is what may be logged.
func wantsJSON(args []string) (yes bool) {
	const flag = "--logging-format"
	for i, a := range args {
		name, value, given := strings.Cut(strings.ReplaceAll(a, "_", "-"), "=")
		switch {
		case a == "--":
			return yes
		case name == flag && !given && i+1 < len(args):
			yes = args[i+1] == logsapi.JSONLogFormat
		case name == flag:
			yes = value == logsapi.JSONLogFormat
		}
	}
	return yes
}

// rootCommand returns the program. enter takes from the process the rights that 'nftproxy run' does
// not need; nil: it keeps them.
func rootCommand(version string, enter func(sandbox.Config) (notes []string)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "nftproxy",
		Short: "A service proxy for Kubernetes nodes that programs nftables directly",
		Long: `nftproxy forwards TCP, UDP and SCTP connections to Kubernetes Services to their
endpoints, round robin, over IPv4 and IPv6. It replaces kube-proxy: it watches
Services and EndpointSlices and programs nftables over netlink, with no other
program's help.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: displayName(os.Args[0])},
	}
	cmd.AddCommand(runCommand(version, enter), dumpCommand(version), cleanupCommand(), versionCommand(version))
	cmd.AddCommand(getCommand(version), describeCommand(version), historyCommand(version),
		diffCommand(version), compareCommand(version), explainCommand(version), traceCommand(version), topCommand(version), checkCommand(version), readyCommand(), uiCommand(version), relayCommand(version))
	cmd.SetGlobalNormalizationFunc(cliflag.WordSepNormalizeFunc) // --cluster_cidr, as kube-proxy takes it, too
	return cmd
}

// displayName is what users call the program: as kubectl-nftproxy on the PATH it is a
// plugin of kubectl.
func displayName(program string) string {
	if isPlugin(program) {
		return "kubectl nftproxy"
	}
	return "nftproxy"
}

// isPlugin says whether a program is kubectl's plugin by its name; Krew's links may end in .exe.
func isPlugin(program string) bool {
	switch strings.TrimSuffix(filepath.Base(program), ".exe") {
	case "kubectl-nftproxy", "kubectl_complete-nftproxy":
		return true
	}
	return false
}

func versionCommand(version string) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version)
			return err
		},
	}
}
