// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	proxyconfig "k8s.io/kube-proxy/config/v1alpha1"

	"github.com/nftproxy/nftproxy/proxier/source/manifests"
)

// Read reads kube-proxy's configuration file, and what nftproxy has besides.
func Read(path string) (c *Config, own Own, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, Own{}, fmt.Errorf("read --config: %w", err)
	}
	if c, own, _, err = Parse(data); err != nil {
		return nil, Own{}, fmt.Errorf("--config %s: %w", path, err)
	}
	return c, own, nil
}

// Parse decodes kube-proxy's configuration and fills in its defaults, and what nftproxy has besides. As there,
// unknown and duplicate fields are warnings; what has no meaning here is one, too. What is
// wrong with values Validate says.
func Parse(data []byte) (c *Config, own Own, warnings []string, err error) {
	if err = manifests.CheckExpansion(data); err != nil {
		return nil, Own{}, nil, err
	}
	own, data, warnings, err = splitOwn(data)
	if err != nil {
		return nil, Own{}, nil, err
	}
	scheme := runtime.NewScheme()
	utilruntime.Must(proxyconfig.AddToScheme(scheme))
	decode := func(strictness serializer.CodecFactoryOptionsMutator) (runtime.Object, error) {
		// The data has to say what it is: an empty file is not a configuration of defaults.
		decoded, _, failed := serializer.NewCodecFactory(scheme, strictness).UniversalDeserializer().Decode(data, nil, nil)
		return decoded, failed
	}
	object, err := decode(serializer.EnableStrict)
	if runtime.IsStrictDecodingError(err) {
		warnings = append(warnings, fmt.Sprintf("fields that are left out: %v", err))
		object, err = decode(serializer.DisableStrict)
	}
	if err != nil {
		return nil, Own{}, nil, err
	}
	c, ok := object.(*Config)
	if !ok {
		return nil, Own{}, nil, fmt.Errorf("it is a %s, not a KubeProxyConfiguration", object.GetObjectKind().GroupVersionKind().Kind)
	}
	warnings = append(warnings, meaningless(c)...)
	setDefaults(c)
	return c, own, warnings, nil
}
