// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

func serverURL(server netip.AddrPort) string { return "https://" + server.String() }

// writeKubeconfig writes a file that needs no other file.
func writeKubeconfig(path string, server netip.AddrPort, a *authority, user credentials) error {
	const name = "controlplane"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: serverURL(server), CertificateAuthorityData: a.pem()}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: user.cert, ClientKeyData: user.key}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("write kubeconfig %s: %w", path, err)
	}
	return nil
}

// restConfig makes connections from inside the namespace, past any proxy that
// the environment names, and without a limit on the rate of requests.
func restConfig(ns namespace, server netip.AddrPort, a *authority, user credentials) *rest.Config {
	return &rest.Config{
		Host:            serverURL(server),
		TLSClientConfig: rest.TLSClientConfig{CAData: a.pem(), CertData: user.cert, KeyData: user.key},
		Dial:            ns.dial,
		Proxy:           func(*http.Request) (*url.URL, error) { return nil, nil },
		QPS:             -1,
	}
}

// MakeKubeconfig writes a kubeconfig for a user with a certificate, a member of the
// groups, and returns its path. It goes away with the control plane.
func (cp *ControlPlane) MakeKubeconfig(user string, groups ...string) (string, error) {
	who, err := cp.authority.client(user, groups...)
	if err != nil {
		return "", err
	}
	path := filepath.Join(cp.dir, strings.ReplaceAll(user, ":", "-")+".kubeconfig")
	return path, writeKubeconfig(path, cp.at.serve, cp.authority, who)
}

// Address returns where clients reach the API server.
func (cp *ControlPlane) Address() netip.AddrPort { return cp.at.serve }

// CAFile returns the path of the certificate that signs the API server's.
func (cp *ControlPlane) CAFile() string { return filepath.Join(cp.dir, caFile) }

// Kubeconfig returns the path of the administrator's kubeconfig. Its server is
// Config.Address, so it works wherever that address can be reached.
func (cp *ControlPlane) Kubeconfig() string { return cp.kubeconfig }

// RESTConfig returns a configuration for the administrator's clients that
// works from any namespace: it dials from inside Config.NetNS.
func (cp *ControlPlane) RESTConfig() *rest.Config { return rest.CopyConfig(cp.rest) }

// Client returns the administrator's client, made from [ControlPlane.RESTConfig].
func (cp *ControlPlane) Client() kubernetes.Interface { return cp.client }
