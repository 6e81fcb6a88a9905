// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// Manifests is a directory of manifests, one file an object.
type Manifests struct {
	Dir string
	// barriers counts the uses of Programmed.
	barriers int
}

// Put writes objects, which need their apiVersion and kind, in place of older
// ones of the same kind, namespace and name.
func (m *Manifests) Put(objects ...runtime.Object) error {
	for _, o := range objects {
		name, err := fileName(o)
		if err != nil {
			return err
		}
		data, err := json.MarshalIndent(o, "", "  ")
		if err != nil {
			return fmt.Errorf("write manifest %s: %w", name, err)
		}
		if err := m.Write(name, data); err != nil {
			return err
		}
	}
	return nil
}

// Delete removes objects' files; one that does not exist is no error.
func (m *Manifests) Delete(objects ...runtime.Object) error {
	for _, o := range objects {
		name, err := fileName(o)
		if err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(m.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delete manifest: %w", err)
		}
	}
	return nil
}

// Write puts a file in place in one step, so that no reader sees half of it.
func (m *Manifests) Write(name string, data []byte) error {
	temporary := filepath.Join(m.Dir, "."+name+".new")
	if err := os.WriteFile(temporary, data, 0o644); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return os.Rename(temporary, filepath.Join(m.Dir, name))
}

func fileName(o runtime.Object) (string, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return "", fmt.Errorf("write manifest: %w", err)
	}
	u := unstructured.Unstructured{Object: fields}
	if u.GetKind() == "" || u.GetName() == "" {
		return "", fmt.Errorf("write manifest: %T %q has no kind or no name", o, u.GetName())
	}
	return strings.ToLower(u.GetKind()) + "-" + u.GetNamespace() + "-" + u.GetName() + ".json", nil
}

// barrier is a service of one endpoint whose address changes with each use. It
// sorts after all other objects, and a source tells of EndpointSlices last: when
// the kernel has the endpoint, it has all that was written before.
const barrier = `{"apiVersion":"v1","kind":"List","items":[
{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"zzz","name":"barrier"},
 "spec":{"clusterIP":"%[1]s","ports":[{"port":%[2]d}]}},
{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"namespace":"zzz","name":"barrier","labels":{"kubernetes.io/service-name":"barrier"}},
 "addressType":"IPv4","ports":[{"port":%[4]d}],"endpoints":[{"addresses":["%[3]s"]}]}]}`

// barrierFrontend is where the barrier can be reached: the last of the service range.
func barrierFrontend() netip.AddrPort {
	return netip.AddrPortFrom(netns.ServiceAddr(netns.IPv4, 65534), 9)
}

// Programmed waits until the nftproxy in a namespace has programmed all that the
// directory holds. Objects of the namespace zzz are its own.
func (m *Manifests) Programmed(ctx context.Context, ns *netns.NS) error {
	m.barriers++
	frontend := barrierFrontend()
	endpoint := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(m.barriers))
	text := fmt.Sprintf(barrier, frontend.Addr(), frontend.Port(), endpoint.Addr(), endpoint.Port())
	if err := m.Write("zzz-barrier.json", []byte(text)); err != nil {
		return err
	}
	var k *kernel.Kernel
	err := ns.Do(func() (err error) { k, err = kernel.Open(); return err })
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	for {
		ok, err := forwardsTo(k, endpoint)
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until nftproxy has programmed %s: %w", m.Dir, context.Cause(ctx))
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// forwardsTo tells whether the barrier leads to an endpoint.
func forwardsTo(k *kernel.Kernel, endpoint netip.AddrPort) (bool, error) {
	s, err := k.Read(rules.DefaultTable)
	if err != nil || s.Tables[rules.IPv4] == nil {
		return false, err
	}
	frontend := barrierFrontend()
	key := rules.Key{Addr: frontend.Addr(), Protocol: rules.TCP, Port: frontend.Port()}
	return s.Tables[rules.IPv4].Sets[rules.SetID{Kind: rules.Single}][key].To == endpoint, nil
}
