// SPDX-License-Identifier: Apache-2.0

//go:build linux

package app

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/config"
	"github.com/nftproxy/nftproxy/rules"
)

// ownText has each field, with a value that is not its default.
const ownText = `apiVersion: nftproxy.io/v1alpha1
kind: NftproxyConfiguration
failover: true
failoverThreshold: 7
failoverShare: 33
scheduler: maglev
maglevTableSize: 4093
maglevSeed: 9
maxSlots: 65536
countPeriod: 3s
`

// ownFlags are flags that say the same.
func ownFlags() []string {
	return []string{"--failover", "--failover-threshold=7", "--failover-share=33", "--scheduler=maglev", "--maglev-table-size=4093", "--maglev-seed=9",
		"--max-slots=65536", "--count-period=3s"}
}

// withConfig returns the options that a configuration file and flags give.
func withConfig(t *testing.T, text string, args ...string) (*runOptions, error) {
	t.Helper()
	o, flags := runFlags()
	must(t, flags.Parse(append([]string{"--config", "config.conf"}, args...)))
	return o.resolved(flags, []byte(text))
}

// spreading is what the own part of a file may say.
func spreading(o *runOptions) any {
	return []any{o.failover, o.scheduler, o.maglev, o.maxSlots, o.count}
}

// TestOwnConfig: the own document of a configuration file says what flags say, wherever it stands; a flag that is given counts more.
func TestOwnConfig(t *testing.T) {
	want, err := withConfig(t, configHead, ownFlags()...)
	must(t, err)
	for name, text := range map[string]string{"after": configHead + "mode: nftables\n---\n" + ownText, "before": ownText + "---\n" + configHead,
		"with a remark": "--- # ours\r\n" + strings.ReplaceAll(ownText, "\n", "\r\n") + "--- # kube-proxy's\r\n" + configHead, "beside others": configHead + "---\n" + ownText + "---\nkind: Other\n"} {
		got, failed := withConfig(t, text)
		if failed != nil {
			t.Errorf("%s: %v", name, failed)
		} else if !reflect.DeepEqual(spreading(got), spreading(want)) || len(got.warnings) > 0 && name != "before" && !strings.HasPrefix(got.warnings[0], "mode") {
			t.Errorf("%s: %v, want %v; warnings %q", name, spreading(got), spreading(want), got.warnings)
		}
	}
	got, err := withConfig(t, configHead+"---\n"+ownText, "--failover=false", "--scheduler=random", "--count-period=1m")
	must(t, err)
	if got.failover.on || got.scheduler != "random" || got.count != time.Minute || got.failover.threshold != 7 {
		t.Errorf("beside flags: %v", spreading(got))
	}
	// A file that no longer says it: the defaults are back.
	o, flags := runFlags()
	must(t, flags.Parse([]string{"--config", "config.conf"}))
	first, err := o.resolved(flags, []byte(configHead+"---\n"+ownText))
	must(t, err)
	again, err := o.resolved(flags, []byte(configHead))
	must(t, err)
	if !first.failover.on || again.failover.on || again.scheduler != "" || !again.kubeProxy.Own.Empty() {
		t.Errorf("after the file has changed: %v", spreading(again))
	}
}

// TestOwnConfigFields: each field is a flag's, by its name.
func TestOwnConfigFields(t *testing.T) {
	_, flags := runFlags()
	var own map[string]any
	must(t, yaml.Unmarshal([]byte(ownText), &own))
	for i, of := 0, reflect.TypeFor[config.Own](); i < of.NumField(); i++ {
		name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		if _, ok := own[name]; !ok {
			t.Errorf("no test of the field %s", name)
		}
		flag := ""
		for _, r := range name {
			if r >= 'A' && r <= 'Z' {
				flag += "-"
			}
			flag += strings.ToLower(string(r))
		}
		if flags.Lookup(flag) == nil && name != "apiVersion" && name != "kind" {
			t.Errorf("there is no flag --%s", flag)
		}
	}
}

// TestOwnConfigFaults: what cannot be is refused, what is not known is a warning.
func TestOwnConfigFaults(t *testing.T) {
	const head = "apiVersion: nftproxy.io/v1alpha1\nkind: NftproxyConfiguration\n"
	for text, want := range map[string]string{
		head + "failoverThreshold: 0":                   "--failover-threshold",
		head + "failoverShare: 101":                     "--failover-share",
		head + "failover: sometimes":                    "NftproxyConfiguration",
		head + "scheduler: fastest":                     "--scheduler",
		head + "maglevTableSize: 1000":                  "--maglev-table-size",
		head + "maglevTableSize: 70000":                 "NftproxyConfiguration",
		head + "maglevSeed: 0":                          "--maglev-seed",
		head + "maxSlots: 0":                            "--max-slots",
		head + "countPeriod: 0s":                        "--count-period",
		head + "---\n" + head:                           "twice",
		"apiVersion: nftproxy.io/v2\nkind: Other":       "is not known here",
		"apiVersion: nftproxy.io/v1alpha1\nkind: Other": "is not known here",
	} {
		if _, err := withConfig(t, configHead+"---\n"+text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want a fault of %s", text, err, want)
		}
	}
	o, err := withConfig(t, configHead+"mode: nftables\n---\n"+head+"failover: true\nfailoverAlways: 5\n")
	must(t, err)
	if !o.failover.on || len(o.warnings) != 1 || !strings.Contains(o.warnings[0], "failoverAlways") {
		t.Errorf("a field that is not known: failover %t, warnings %q", o.failover.on, o.warnings)
	}
	if _, err := withConfig(t, ownText); err == nil {
		t.Error("a file without kube-proxy's configuration is taken")
	}
}

// TestOwnConfigWritten: --write-config-to writes it, from flags and from a file, and commands that look read it.
func TestOwnConfigWritten(t *testing.T) {
	path, again := filepath.Join(t.TempDir(), "config.conf"), filepath.Join(t.TempDir(), "again.conf")
	for _, args := range [][]string{append([]string{"--write-config-to", path}, ownFlags()...), {"--config", path, "--write-config-to", again}} {
		if code, _, stderr := run(t, append([]string{"run"}, args...)...); code != 0 {
			t.Fatalf("%q: exit code %d: %s", args, code, stderr)
		}
	}
	for _, file := range []string{path, again} {
		_, own, err := config.Read(file)
		must(t, err)
		text, err := own.Marshal()
		must(t, err)
		var got, want map[string]any
		must(t, yaml.Unmarshal(text, &got))
		must(t, yaml.Unmarshal([]byte(ownText), &want))
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s has %v, want %v", file, got, want)
		}
	}
	o, fs := &wantOptions{}, pflag.NewFlagSet("", pflag.ContinueOnError)
	o.add(fs)
	must(t, fs.Parse([]string{"--config", path, "--max-slots=77"}))
	must(t, o.resolve(fs, t.TempDir(), func(string) {}))
	if !o.failover.on || o.scheduler != "maglev" || o.maglev.size != 4093 || o.maxSlots != 77 {
		t.Errorf("a command reads %+v", o)
	}
}

// TestChartValues: the chart has the defaults of the flags, and the same names of schedulers.
func TestChartValues(t *testing.T) {
	read := func(name string, into any) {
		t.Helper()
		data, err := os.ReadFile(filepath.Join("../../../deploy/chart", name))
		must(t, err)
		must(t, yaml.Unmarshal(data, into))
	}
	var values struct {
		Failover struct{ Threshold, Share int }
		Maglev   struct{ TableSize int }
	}
	read("values.yaml", &values)
	var schema struct {
		Properties struct {
			Scheduler struct{ Enum []string }
		}
	}
	read("values.schema.json", &schema)
	o, _ := runFlags()
	if values.Failover.Threshold != o.failover.threshold || values.Failover.Share != o.failover.share || values.Maglev.TableSize != int(o.maglev.size) {
		t.Errorf("the chart has %+v, the flags %+v, %+v", values, o.failover, o.maglev)
	}
	if want := append([]string{""}, rules.SchedulerNames()...); !slices.Equal(schema.Properties.Scheduler.Enum, want) {
		t.Errorf("the chart knows the schedulers %q, want %q", schema.Properties.Scheduler.Enum, want)
	}
}
