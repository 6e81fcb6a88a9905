// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/nftproxy/nftproxy/proxier/source"
	"github.com/nftproxy/nftproxy/rules"
)

// sourceOptions says where Services and EndpointSlices come from.
type sourceOptions struct {
	version    string // of this program, for the user agent
	kubeconfig string
	master     string
	manifests  string
	proxyName  string // of --service-proxy-name
	userConfig bool   // outside a cluster, kubectl's kubeconfig is a source, too

	contentType        string
	acceptContentTypes string
	qps                float32 // negative: without limit
	burst              int
}

func (o *sourceOptions) add(fs *pflag.FlagSet) {
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig `file` of the API server to watch (default: in-cluster configuration)")
	fs.StringVar(&o.master, "master", "", "`URL` of the API server, overrides the kubeconfig's")
	fs.StringVar(&o.proxyName, "service-proxy-name", "", "serve only Services whose label service.kubernetes.io/service-proxy-name is this `name`, in tables of their own (default: those without the label)")
	fs.StringVar(&o.manifests, "manifests", "", "`directory` of YAML and JSON manifests to watch instead of an API server")
}

func (o *sourceOptions) validate() error {
	if o.manifests != "" && (o.kubeconfig != "" || o.master != "") {
		return errors.New("--manifests goes with neither --kubeconfig nor --master: give one source")
	}
	return nil
}

// restConfig says how to reach the API server. In a pod --master alone replaces
// only the server's address.
func (o *sourceOptions) restConfig() (*rest.Config, error) {
	if o.kubeconfig != "" {
		config, err := clientcmd.BuildConfigFromFlags(o.master, o.kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("read kubeconfig %s: %w", o.kubeconfig, err)
		}
		return config, nil
	}
	config, err := rest.InClusterConfig()
	switch {
	case err == nil && o.master != "":
		config.Host = o.master
	case err != nil && o.master != "":
		config = &rest.Config{Host: o.master}
	case err != nil && o.userConfig:
		files := clientcmd.NewDefaultClientConfigLoadingRules() // KUBECONFIG, or ~/.kube/config
		config, userErr := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(files, nil).ClientConfig()
		if userErr == nil {
			return config, nil
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

// client returns a client for the API server.
func (o *sourceOptions) client() (kubernetes.Interface, error) {
	config, err := o.restConfig()
	if err != nil {
		return nil, err
	}
	config.UserAgent = "nftproxy/" + o.version
	config.ContentType, config.AcceptContentTypes = o.contentType, o.acceptContentTypes
	orElse(&config.ContentType, defaultContentType)
	orElse(&config.AcceptContentTypes, config.ContentType+",application/json")
	config.QPS, config.Burst = o.qps, o.burst
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make API client: %w", err)
	}
	return client, nil
}

// open returns the source, and the client for its API server, which is nil for
// manifests. warn takes messages about what the source skips.
func (o *sourceOptions) open(nodeName string, warn func(error)) (source.Source, kubernetes.Interface, error) {
	if o.manifests != "" {
		return &source.Manifests{Dir: o.manifests, ServiceProxyName: o.proxyName, Warn: warn}, nil, nil
	}
	client, err := o.client()
	if err != nil {
		return nil, nil, err
	}
	return &source.Cluster{Client: client, NodeName: nodeName, ServiceProxyName: o.proxyName, Warn: warn}, client, nil
}

// rulesOptions says what holds for all services.
type rulesOptions struct {
	clusterCIDR      string
	masqueradeAll    bool
	masqueradeBit    int
	hostnameOverride string
	countConnections bool // --service-metrics
}

func (o *rulesOptions) add(fs *pflag.FlagSet) {
	fs.StringVar(&o.clusterCIDR, "cluster-cidr", "", "`CIDRs` of pods, comma separated: connections to ClusterIPs from elsewhere are masqueraded")
	fs.BoolVar(&o.masqueradeAll, "masquerade-all", false, "masquerade all connections to ClusterIPs")
	fs.IntVar(&o.masqueradeBit, "masquerade-bit", bits.TrailingZeros32(rules.DefaultMasqueradeMark), "`bit` (0 to 31) of the packet mark that marks connections to be masqueraded")
	fs.BoolVar(&o.countConnections, "service-metrics", false, "count the new connections to each service port, for /metrics; switching it writes the tables anew")
	fs.StringVar(&o.hostnameOverride, "hostname-override", "", "this node's `name` in the cluster (default: the host name)")
}

// tableName returns the name of the tables of a --service-proxy-name.
func tableName(proxyName string) string {
	if proxyName == "" {
		return rules.DefaultTable
	}
	return rules.DefaultTable + "-" + proxyName
}

// config checks the options; all that is wrong with them is in one error.
func (o *rulesOptions) config(proxyName string) (rules.Config, error) {
	c := rules.Config{Table: tableName(proxyName), MasqueradeAll: o.masqueradeAll, CountConnections: o.countConnections}
	var errs []error
	for _, s := range strings.Split(o.clusterCIDR, ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("--cluster-cidr: %q is not a CIDR such as 10.244.0.0/16", s))
			continue
		}
		c.PodCIDRs = append(c.PodCIDRs, p.Masked())
	}
	if o.masqueradeBit < 0 || o.masqueradeBit > 31 {
		errs = append(errs, fmt.Errorf("--masquerade-bit: %d is not between 0 and 31", o.masqueradeBit))
	} else {
		c.MasqueradeMark = 1 << o.masqueradeBit
	}
	return c.WithDefaults(), errors.Join(errs...)
}

// nodeName returns this node's name, in lower case as Kubernetes has it.
func (o *rulesOptions) nodeName() (string, error) {
	name := o.hostnameOverride
	if name == "" {
		var err error
		if name, err = os.Hostname(); err != nil {
			return "", fmt.Errorf("get host name: %w: give --hostname-override", err)
		}
	}
	return strings.ToLower(strings.TrimSpace(name)), nil
}
