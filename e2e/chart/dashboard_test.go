// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"os"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// TestDashboardSchema: the dashboard is one by Grafana's own schema, of which its Go types are made: no field that this does not know, each of
// its type, the options of each kind of panel among them.
func TestDashboardSchema(t *testing.T) {
	r := cog.NewRuntime()
	for _, panel := range []func() variants.PanelcfgConfig{stat.VariantConfig, timeseries.VariantConfig} {
		r.RegisterPanelcfgVariant(panel())
	}
	r.RegisterDataqueryVariant(prometheus.VariantConfig())
	text, err := os.ReadFile(dir + "/files/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard.Dashboard
	for _, err := range []error{d.UnmarshalJSONStrict(text), d.Validate()} {
		if err != nil && err.Error() != "" { // a list of errors, which may have none
			t.Error(err)
		}
	}
	for what, bad := range map[string]string{
		"a field of no dashboard": strings.Replace(string(text), `"uid": "nftproxy"`, `"uid": "nftproxy", "colour": 1`, 1),
		"a number for a text":     strings.Replace(string(text), `"title": "nftproxy"`, `"title": 1`, 1),
	} {
		var d dashboard.Dashboard
		if err := d.UnmarshalJSONStrict([]byte(bad)); err == nil || err.Error() == "" {
			t.Errorf("%s is accepted", what)
		}
	}
}
