// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier/apiclient"
)

// Client is a pod that connections are made from.
type Client struct {
	Namespace, Name, Node string
	Addrs                 []netip.Addr
	container             string
}

// FindClient finds a pod by its name, or by its address.
func (c *Cluster) FindClient(ctx context.Context, namespace, name string) (*Client, error) {
	var pod *corev1.Pod
	if a, err := netip.ParseAddr(name); err == nil {
		if pod, err = c.podAt(ctx, a); err != nil {
			return nil, err
		}
	} else if pod, err = c.Client.Pods(namespace).Get(ctx, name, metav1.GetOptions{}); err != nil {
		return nil, fmt.Errorf("get pod %s/%s: %w", printable.Word(namespace), printable.Word(name), err)
	}
	out := &Client{Namespace: pod.Namespace, Name: pod.Name, Node: pod.Spec.NodeName, Addrs: apiclient.PodAddrs(pod)}
	if out.Node == "" || len(out.Addrs) == 0 || len(pod.Spec.Containers) == 0 || pod.Status.Phase != corev1.PodRunning {
		return nil, fmt.Errorf("pod %s/%s does not run yet, or no more", printable.Word(pod.Namespace), printable.Word(pod.Name))
	}
	out.container = pod.Spec.Containers[0].Name
	if wanted := pod.Annotations["kubectl.kubernetes.io/default-container"]; wanted != "" {
		out.container = wanted
	}
	return out, nil
}

// podAt returns the pod that has an address of its own.
func (c *Cluster) podAt(ctx context.Context, a netip.Addr) (*corev1.Pod, error) {
	list, err := c.Client.Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{FieldSelector: "status.podIP=" + a.String()})
	if err != nil {
		return nil, fmt.Errorf("look for the pod with address %s: %w", a, err)
	}
	for i := range list.Items {
		if p := &list.Items[i]; !p.Spec.HostNetwork && p.Status.Phase == corev1.PodRunning {
			return p, nil
		}
	}
	return nil, fmt.Errorf("no pod that runs has the address %s for its own: give its NAMESPACE/NAME", a)
}

// ErrNoTool says that a pod has nothing to make a connection with.
var ErrNoTool = errors.New("it has nothing to make a connection with (bash, nc, python3 or perl)")

// ways are commands that make a TCP connection and end.
func ways(at netip.AddrPort) [][]string {
	host, port := at.Addr().String(), strconv.Itoa(int(at.Port()))
	return [][]string{
		{"bash", "-c", `exec 3<>"/dev/tcp/$0/$1"`, host, port},
		{"nc", "-z", "-w", "3", host, port},
		{"python3", "-c", "import socket,sys; socket.create_connection((sys.argv[1],int(sys.argv[2])),3)", host, port},
		{"perl", "-MIO::Socket::IP", "-e", `IO::Socket::IP->new(PeerHost=>$ARGV[0],PeerPort=>$ARGV[1],Timeout=>3) or die "$!\n"`, host, port},
	}
}

// Connect has a pod make a TCP connection, with what there is in it, and says what it saw. It fails with ErrNoTool if there is
// nothing.
func (c *Cluster) Connect(ctx context.Context, from *Client, to netip.AddrPort) (saw string, err error) {
	var last error
	for _, command := range ways(to) {
		var said Tail
		code, err := c.exec(ctx, &apiclient.Exec{Namespace: from.Namespace, Pod: from.Name, Container: from.container, Command: command}, Streams{Out: &said, Err: &said})
		const cannotRun, notFound = 126, 127
		switch {
		case ctx.Err() != nil:
			return "no answer", nil //nolint:nilerr // that is what it saw
		case err != nil:
			last = err
		case code == cannotRun || code == notFound:
		case code == 0:
			return "connected", nil
		default:
			return failure(command[0], code, said.whole()), nil
		}
	}
	if last != nil {
		return "", fmt.Errorf("%w: %w", ErrNoTool, last)
	}
	return "", ErrNoTool
}

// failure says what a command that could not connect has said: its last line.
func failure(command string, code int, said string) string {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	if last := printable.Line(lines[len(lines)-1]); last != "" {
		return last
	}
	return fmt.Sprintf("%s could not connect (code %d)", command, code)
}
