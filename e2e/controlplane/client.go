// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"

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

// Kubeconfig returns the path of the administrator's kubeconfig. Its server is
// Config.Address, so it works wherever that address can be reached.
func (cp *ControlPlane) Kubeconfig() string { return cp.kubeconfig }

// RESTConfig returns a configuration for the administrator's clients that
// works from any namespace: it dials from inside Config.NetNS.
func (cp *ControlPlane) RESTConfig() *rest.Config { return rest.CopyConfig(cp.rest) }

// Client returns the administrator's client, made from [ControlPlane.RESTConfig].
func (cp *ControlPlane) Client() kubernetes.Interface { return cp.client }
