// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/apiserver"
	"github.com/nftproxy/nftproxy/proxier/apiclient"
	"github.com/nftproxy/nftproxy/proxier/source"
	"github.com/nftproxy/nftproxy/proxier/source/manifests"
)

// restConfig says how to reach the API server. In a pod --master alone replaces
// only the server's address.
func (o *wantOptions) restConfig() (*rest.Config, error) {
	master := o.source.master
	if file := o.kubeProxy.ClientConnection.Kubeconfig; file != "" {
		if err := apiserver.CheckKubeconfigs(file); err != nil {
			return nil, err
		}
		config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(&clientcmd.ClientConfigLoadingRules{ExplicitPath: file}, o.source.overrides()).ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("read kubeconfig %s: %w", file, err)
		}
		if o.running {
			err = apiserver.MayInherit(config)
		}
		if err != nil {
			return nil, fmt.Errorf("kubeconfig %s of the nftproxy that runs here: %w: give --kubeconfig to use it all the same", file, err)
		}
		return config, nil
	}
	config, err := rest.InClusterConfig()
	if o.source.context != "" {
		err = rest.ErrNotInCluster // it is one of kubectl's
	}
	switch {
	case err == nil && master != "":
		config.Host = master
	case err != nil && master != "":
		config = &rest.Config{Host: master}
	case err != nil && o.source.userConfig:
		files := clientcmd.NewDefaultClientConfigLoadingRules() // KUBECONFIG, or ~/.kube/config
		if checkErr := apiserver.CheckKubeconfigs(files.GetLoadingPrecedence()...); checkErr != nil {
			return nil, checkErr
		}
		users, userErr := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(files, o.source.overrides()).ClientConfig()
		if userErr == nil {
			return users, nil
		}
		if !clientcmd.IsEmptyConfig(userErr) {
			return nil, fmt.Errorf("read kubectl's kubeconfig: %w", userErr)
		}
		return nil, fmt.Errorf("no source of Services: %w, and kubectl has no kubeconfig: give --kubeconfig FILE, --master URL or --manifests DIR", err)
	case err != nil:
		return nil, fmt.Errorf("no source of Services: %w: give --kubeconfig FILE, --master URL or --manifests DIR", err)
	}
	return config, nil
}

// overrides are what flags say in place of a kubeconfig.
func (o *sourceOptions) overrides() *clientcmd.ConfigOverrides {
	return &clientcmd.ConfigOverrides{CurrentContext: o.context, ClusterInfo: api.Cluster{Server: o.master}}
}

// client returns a client for the API server.
func (o *wantOptions) client() (*apiclient.Client, error) {
	config, err := o.clientConfig()
	if err != nil {
		return nil, err
	}
	return newClient(config)
}

func newClient(config *rest.Config) (*apiclient.Client, error) {
	client, err := apiclient.New(config)
	if err != nil {
		return nil, fmt.Errorf("make API client: %w", err)
	}
	return client, nil
}

// clientConfig says how to reach the API server, and how to talk to it.
func (o *wantOptions) clientConfig() (*rest.Config, error) {
	config, err := o.restConfig()
	if err != nil {
		return nil, err
	}
	connection := o.kubeProxy.ClientConnection
	config.UserAgent = "nftproxy/" + o.source.version
	config.ContentType, config.AcceptContentTypes = connection.ContentType, connection.AcceptContentTypes
	config.AcceptContentTypes = cmp.Or(config.AcceptContentTypes, config.ContentType+",application/json")
	if o.source.userConfig { // the library would log the server's warnings, as they come, into the answer
		config.WarningHandler = rest.NoWarnings{}
	}
	config.QPS, config.Burst = connection.QPS, int(connection.Burst)
	o.source.apiServers.Use(config)
	config.Wrap(source.Bound)
	return config, nil
}

// open returns the source. warn takes messages about what it skips.
func (o *wantOptions) open(nodeName string, warn func(error)) (source.Source, error) {
	if o.source.manifests != "" {
		return o.sourceFrom(nil, nodeName, warn), nil
	}
	client, err := o.client()
	if err != nil {
		return nil, err
	}
	return o.sourceFrom(client, nodeName, warn), nil
}

// sourceFrom returns the source, whose API server is reached by a client unless it is a directory.
func (o *wantOptions) sourceFrom(client *apiclient.Client, nodeName string, warn func(error)) source.Source {
	if dir := o.source.manifests; dir != "" {
		return &manifests.Source{Dir: dir, ServiceProxyName: o.source.proxyName, Warn: warn}
	}
	return &source.Cluster{Client: client, NodeName: nodeName, ServiceProxyName: o.source.proxyName, Warn: warn}
}
