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
		if err := m.write(name, data); err != nil {
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

// write puts a file in place in one step, so that no reader sees half of it.
func (m *Manifests) write(name string, data []byte) error {
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

// barrierAddr is where the services of Programmed begin: the last 1,000 addresses
// of the service range.
const barrierAddr = 64000

// Programmed waits until the nftproxy in a namespace has programmed all that the
// directory holds. It adds a service, in a file that sorts after all others, and
// waits until the kernel has it: what was written before is programmed then.
func (m *Manifests) Programmed(ctx context.Context, ns *netns.NS) error {
	m.barriers++
	addr := netns.ServiceAddr(netns.IPv4, barrierAddr+m.barriers%1000)
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"test","name":"barrier"},`+
		`"spec":{"clusterIP":"%[1]s","clusterIPs":["%[1]s"],"ports":[{"port":9}]}}`, addr)
	if err := m.write("zz-barrier.json", []byte(text)); err != nil {
		return err
	}
	var k *kernel.Kernel
	err := ns.Do(func() (err error) { k, err = kernel.Open(); return err })
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	for {
		ok, err := hasClusterIP(k, addr)
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

func hasClusterIP(k *kernel.Kernel, a netip.Addr) (bool, error) {
	s, err := k.Read(rules.DefaultTable)
	if err != nil || s.Tables[rules.IPv4] == nil {
		return false, err
	}
	_, ok := s.Tables[rules.IPv4].Sets[rules.SetID{Kind: rules.ClusterIPs}][rules.Key{Addr: a}]
	return ok, nil
}
