// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"syscall"

	"k8s.io/klog/v2"
	proxyconfig "k8s.io/kube-proxy/config/v1alpha1"
	"k8s.io/utils/cpuset"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/rules"
)

// Tracking is what connection tracking is to be set to.
func Tracking(c *proxyconfig.KubeProxyConntrackConfiguration) conntrack.Settings {
	return conntrack.Settings{
		MaxPerCore: int(*c.MaxPerCore), Min: int(*c.Min),
		TCPEstablished: c.TCPEstablishedTimeout.Duration, TCPCloseWait: c.TCPCloseWaitTimeout.Duration, TCPBeLiberal: c.TCPBeLiberal,
		UDP: c.UDPTimeout.Duration, UDPStream: c.UDPStreamTimeout.Duration,
	}
}

// AskTracking asks connection tracking for something: its module is loaded then, and its settings are
// there. An error says that nothing can be asked.
func AskTracking(ctx context.Context) error {
	c, err := conntrack.Open()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	from, to := netip.AddrFrom4([4]byte{10, 0, 0, 1}), netip.AddrFrom4([4]byte{10, 0, 0, 2})
	_, _, err = c.Get(ctx, rules.UDP, conntrack.Tuple{Src: netip.AddrPortFrom(from, 1), Dst: netip.AddrPortFrom(to, 2)})
	return err
}

// TrackingUsage returns how full connection tracking is.
func TrackingUsage(ctx context.Context) (conntrack.Usage, error) {
	c, err := conntrack.Open()
	if err != nil {
		return conntrack.Usage{}, err
	}
	defer func() { _ = c.Close() }()
	return c.Usage(ctx)
}

// tellTracking tells of what of connection tracking could not be set. A file system that
// is read-only is that of a container which somebody chose to give no privileges.
func tellTracking(log klog.Logger, err error, warn func(reason, message string)) {
	var chosen, faults []error
	for _, e := range parts(err) {
		if errors.Is(e, syscall.EROFS) {
			chosen = append(chosen, e)
		} else {
			faults = append(faults, e)
		}
	}
	if err := errors.Join(chosen...); err != nil {
		log.Info("Connection tracking is left as it is: its settings are read-only here; 'nftproxy run --init-only' with full privileges sets them, or --sysctl-root says where they can be written", "reason", err.Error())
	}
	if err := errors.Join(faults...); err != nil {
		log.Error(err, "Connection tracking is not set up as it should be; run 'nftproxy run --init-only' with full privileges, or leave it as it is (conntrack.maxPerCore 0, the timeouts 0s)")
		warn("FailedToSetUpConntrack", printable.Error(err))
	}
}

// parts returns the errors that were joined to one.
func parts(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// CPUs returns the number of the machine's CPUs, not of those that this process may use
// where that can be told.
func CPUs() int {
	if n, err := cpuset.NumCPU(); err == nil && n > 0 {
		return n
	}
	return runtime.NumCPU()
}
